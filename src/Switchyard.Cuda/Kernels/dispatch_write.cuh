// The third part of a dispatch: each row to its final place, and what belongs to it.
#pragma once
#include "dispatch_args.cuh"
#include "quantize.cuh"

// Scales that a warp takes along with a row: 16 bytes a lane, as many rows at a time as fit.
struct RowScales {
    const DispatchArgs& a;
    u32 units, lanes; // of a row

    DEVICE explicit RowScales(const DispatchArgs& args) : a(args), units(args.movers_scales / 16), lanes(units <= WARP / 2 ? WARP / 2 : WARP) {}

    DEVICE uint4 load(u32 token, u32 unit) const { return unit < units ? *(const uint4*)(a.scales + (i64)token * a.scale_stride + 16 * unit) : uint4 {}; }

    // The first unit of each lane was loaded ahead.
    DEVICE void store(const Agreed& agreed, u32 token, const Entry& mine, const uint4& first) const {
        u32 unit = lane_index() % lanes, group = lane_index() / lanes;
        if (units == 0) return;
        for (u32 left = ballot(mine.rank >= 0); left != 0;) {
            u32 place = (u32)__builtin_ctz(left);
            left &= left - 1;
            bool is_one = true;
            if (lanes < WARP) {
                u32 other = left != 0 ? (u32)__builtin_ctz(left) : place;
                is_one = group == 0 || left != 0;
                left &= left - 1;
                if (group != 0) place = other;
            }
            u32 rank = from_lane((u32)mine.rank, place), row = from_lane((u32)mine.row, place);
            if (!is_one) continue;
            u8* to = agreed.regions[rank].scales + (i64)row * a.scale_bytes;
            for (u32 at = unit; at < units; at += lanes) st_16(to + 16 * at, at == unit ? first : load(token, at));
        }
    }
};

// The pieces of rows that a warp moves, one after the other: which tokens, is settled as they are taken, so that no warp ends long before another.
struct Item {
    u32 token, piece;
    u32 taken; // lane 0: the token behind this one

    DEVICE Item(const DispatchArgs& a, u32 mover) : token(mover * block_count() + block_index()), piece(0) { take(a); }
    DEVICE bool is_one(const DispatchArgs& a) const { return token < a.tokens; }
    DEVICE void take(const DispatchArgs& a) {
        if (lane_index() == 0) taken = a.movers * block_count() + add_relaxed_gpu(&a.x.state->taken, 1);
    }
    DEVICE void next(const DispatchArgs& a) {
        if (++piece < a.pieces) return;
        piece = 0;
        token = from_lane(taken, 0);
        if (is_one(a)) take(a);
    }
    DEVICE u32 offset(const DispatchArgs& a) const { return piece * a.piece_bytes; }
    DEVICE u32 bytes(const DispatchArgs& a) const { u32 left = a.row_bytes - offset(a); return left < a.piece_bytes ? left : a.piece_bytes; }
};

// By a warp: until all blocks have written where their rows go; false where one of them gave up.
DEVICE bool await_places(const Exchange& x) {
    while (ld_acquire_gpu(&x.state->placed) < block_count())
        if (is_broken(x)) return false;
    sync_warp();
    return true;
}

// A warp moves whole rows: the next is loaded while the last is stored to all its destinations. False where another block gave up.
DEVICE bool move_rows(const DispatchArgs& a, const Agreed& agreed, u32 mover, u32 shared) {
    u32 lane = lane_index(), k = a.x.top_k;
    u32 barriers = shared + mover * STAGES * 8, ring = shared + RING_OFFSET + mover * STAGES * a.piece_bytes;
    if (lane == 0) {
        for (u32 stage = 0; stage < STAGES; stage++) mbarrier_init(barriers + 8 * stage, 1);
        mbarrier_init_fence();
    }
    sync_warp();
    Item item(a, mover);
    RowScales scales(a);
    auto load = [&](u32 turn) INLINED {
        if (lane != 0) return;
        mbarrier_arrive_expect(barriers + 8 * (turn % STAGES), item.bytes(a));
        bulk_load(ring + turn % STAGES * a.piece_bytes, a.rows + (i64)item.token * a.row_stride + item.offset(a), item.bytes(a), barriers + 8 * (turn % STAGES));
    };
    auto entry_at = [&](u32 place) INLINED { return place < k ? a.sent[(u64)item.token * k + place] : Entry { -1, 0 }; };
    if (item.is_one(a)) load(0);
    if (!await_places(a.x)) {
        if (item.is_one(a)) mbarrier_wait(barriers, 0); // what is under way ends before the block does
        return false;
    }
    Entry entry = { -1, 0 };
    uint4 scale = {};
    if (item.is_one(a)) {
        entry = entry_at(lane);
        scale = scales.load(item.token, lane % scales.lanes);
    }
    for (u32 turn = 0; item.is_one(a); turn++) {
        Item now = item;
        Entry to = entry, upper = k > WARP ? entry_at(lane + WARP) : Entry { -1, 0 };
        uint4 first_scale = scale;
        u32 stage = ring + turn % STAGES * a.piece_bytes;
        auto store = [&](Entry entry) INLINED {
            if (entry.rank >= 0) bulk_store(agreed.regions[entry.rank].rows + (i64)entry.row * a.row_bytes + now.offset(a), stage, now.bytes(a));
        };
        mbarrier_wait(barriers + 8 * (turn % STAGES), turn / STAGES % 2);
        store(to);
        if (k > WARP) store(upper);
        bulk_commit();
        item.next(a);
        if (item.is_one(a)) {
            entry = entry_at(lane);
            scale = scales.load(item.token, lane % scales.lanes);
            bulk_wait_read<1>();
            sync_warp();
            load(turn + 1);
        }
        if (now.piece != 0) continue;
        scales.store(agreed, now.token, to, first_scale);
        if (k > WARP) scales.store(agreed, now.token, upper, first_scale);
    }
    bulk_wait<0>();
    return true;
}

// As Switchyard.ElementType numbers those that are quantized.
enum GivenElement : u32 { NOT_QUANTIZED = 0, GIVEN_BFLOAT16 = 1, GIVEN_SINGLE = 2, GIVEN_HALF = 5 };
constexpr u32 PIECE_SCALE_BYTES = 256; // of a piece, at most

// By a warp: the scales of a piece, in shared memory, to each row of its token.
DEVICE void store_new_scales(const DispatchArgs& a, const Agreed& agreed, const Entry& mine, u32 scales, u32 first, u32 count) {
    for (u32 left = ballot(mine.rank >= 0); left != 0; left &= left - 1) {
        u32 place = (u32)__builtin_ctz(left), rank = from_lane((u32)mine.rank, place), row = from_lane((u32)mine.row, place);
        const Region& region = agreed.regions[rank];
        for (u32 i = lane_index(); i < count; i += WARP) {
            i64 at = a.mine.signature.scale_layout ? (first + i) * region.scale_column + (i64)row * 4 : (i64)row * a.scale_bytes + 4 * (first + i);
            *(u32*)(region.scales + at) = ld_shared(scales + 4 * i);
        }
    }
}

// As move_rows, of rows that become codes on their way.
DEVICE bool quantize_rows(const DispatchArgs& a, const Agreed& agreed, u32 mover, u32 shared) {
    u32 lane = lane_index(), k = a.x.top_k, size = a.given_element == GIVEN_SINGLE ? 4 : 2;
    Scaling scaling = (Scaling)a.mine.signature.quantize;
    u32 stage_bytes = a.piece_bytes * (size + 1) + PIECE_SCALE_BYTES;
    u32 barriers = shared + mover * STAGES * 8, ring = shared + RING_OFFSET + mover * STAGES * stage_bytes;
    if (lane == 0) {
        for (u32 stage = 0; stage < STAGES; stage++) mbarrier_init(barriers + 8 * stage, 1);
        mbarrier_init_fence();
    }
    sync_warp();
    Item item(a, mover);
    auto load = [&](u32 turn) INLINED {
        if (lane != 0) return;
        mbarrier_arrive_expect(barriers + 8 * (turn % STAGES), item.bytes(a) * size);
        bulk_load(ring + turn % STAGES * stage_bytes, a.rows + (i64)item.token * a.row_stride + (i64)item.offset(a) * size, item.bytes(a) * size, barriers + 8 * (turn % STAGES));
    };
    auto entry_at = [&](const Item& item, u32 place) INLINED { return place < k ? a.sent[(u64)item.token * k + place] : Entry { -1, 0 }; };
    if (item.is_one(a)) load(0);
    if (!await_places(a.x)) {
        if (item.is_one(a)) mbarrier_wait(barriers, 0); // what is under way ends before the block does
        return false;
    }
    for (u32 turn = 0; item.is_one(a); turn++) {
        Item now = item;
        u32 given = ring + turn % STAGES * stage_bytes, codes = given + a.piece_bytes * size, scales = codes + a.piece_bytes;
        item.next(a);
        if (item.is_one(a)) load(turn + 1);
        mbarrier_wait(barriers + 8 * (turn % STAGES), turn / STAGES % 2);
        bulk_wait_read<1>();
        sync_warp();
        Entry first = entry_at(now, lane); // long before it is needed
        if (a.given_element == GIVEN_BFLOAT16) quantize<BFloat16>(given, now.bytes(a), codes, scales, scaling);
        else if (a.given_element == GIVEN_HALF) quantize<Half>(given, now.bytes(a), codes, scales, scaling);
        else quantize<Single>(given, now.bytes(a), codes, scales, scaling);
        fence_proxy_async_shared();
        sync_warp();
        u32 group = scaling == PACKED ? PACKED_GROUP : GROUP;
        for (u32 round = 0; round < k; round += WARP) {
            Entry to = round == 0 ? first : entry_at(now, round + lane);
            if (to.rank >= 0) bulk_store(agreed.regions[to.rank].rows + (i64)to.row * a.row_bytes + now.offset(a), codes, now.bytes(a));
            store_new_scales(a, agreed, to, scales, now.offset(a) / group, (now.bytes(a) + group - 1) / group);
        }
        bulk_commit();
    }
    bulk_wait<0>();
    return true;
}

// By a warp: the scales of a token, read once, to each of its rows. T: what is moved at a time; of column-major scales one.
template <class T> DEVICE void write_scales(const DispatchArgs& a, const Agreed& agreed, u32 token) {
    u32 k = a.x.top_k, units = a.scale_bytes / sizeof(T);
    const T* from = (const T*)(a.scales + (i64)token * a.scale_stride);
    for (u32 round = 0; round < k; round += WARP) {
        Entry mine = { -1, 0 };
        if (round + lane_index() < k) mine = a.sent[(u64)token * k + round + lane_index()];
        u32 there = ballot(mine.rank >= 0);
        for (u32 first = 0; first < units; first += WARP) {
            u32 unit = first + lane_index();
            T value = {};
            if (unit < units) value = from[unit];
            for (u32 left = there; left != 0; left &= left - 1) {
                u32 place = (u32)__builtin_ctz(left);
                u32 rank = from_lane((u32)mine.rank, place), row = from_lane((u32)mine.row, place);
                const Region& region = agreed.regions[rank];
                if (unit >= units) continue;
                if (!a.mine.signature.scale_layout) ((T*)(region.scales + (i64)row * a.scale_bytes))[unit] = value;
                else *(T*)(region.scales + unit * region.scale_column + (i64)row * a.scale_size) = value;
            }
        }
    }
}

// Columns of some tokens' rows: a lane for each place of a token holds what is there, and one for each column what was chosen. Lanes side by side
// write what lies side by side, so many columns in one store.
template <u32 Width> DEVICE void write_columns(const DispatchArgs& a, const Agreed& agreed, const Entry& there, u32 first, u32 count, u32 mine, float weight) {
    u32 k = a.x.top_k, lane = lane_index() % a.lanes_a_token, leader = lane_index() - lane, stores = count / Width;
    for (u32 some = 0; some < a.lanes_a_token * stores; some += a.lanes_a_token) {
        u32 place = (some + lane) / stores, column = (some + lane) % stores * Width;
        i32 rank = (i32)from_lane((u32)there.rank, leader + place), row = (i32)from_lane((u32)there.row, leader + place);
        struct alignas(4 * Width) { i32 v[Width]; } indices;
        struct alignas(4 * Width) { float v[Width]; } weights;
        for (u32 i = 0; i < Width; i++) {
            u32 chosen = from_lane(mine, leader + column + i);
            float carried = from_lane(weight, leader + column + i);
            bool is_here = chosen >> 16 == (u32)rank;
            indices.v[i] = is_here ? (i32)(chosen & 0xffff) : -1;
            weights.v[i] = is_here ? carried : 0;
        }
        if (rank < 0) continue;
        i64 at = (i64)row * k + first + column;
        *(decltype(indices)*)(agreed.regions[rank].indices + at) = indices;
        *(decltype(weights)*)(agreed.regions[rank].weights + at) = weights;
    }
}

// Several tokens at a time: a lane for each place of a token, which writes the source of the row that is there; and for each column of each row the
// expert there that was chosen and its weight, or none.
DEVICE void write_metadata(const DispatchArgs& a, const Agreed& agreed, u32 first, u32 tokens) {
    u32 k = a.x.top_k, place = lane_index() % a.lanes_a_token, token = first + lane_index() / a.lanes_a_token;
    // Of more places than lanes some at a time.
    for (u32 round = 0; round < k; round += a.lanes_a_token) {
        Entry entry = { -1, 0 };
        if (token < first + tokens && round + place < k) entry = a.sent[(u64)token * k + round + place];
        const Region& region = agreed.regions[entry.rank < 0 ? 0 : entry.rank];
        if (entry.rank >= 0) *(Entry*)(region.sources + 2 * (i64)entry.row) = { (i32)a.x.rank, (i32)token };
        if (is_expert_major(a)) {
            if (entry.rank < 0) continue;
            u32 index = token * k + round + place;
            region.indices[entry.row] = (i32)(a.places[choice_at(a, index)] & 0xffff);
            region.weights[entry.row] = a.weights ? a.weights[index] : 1;
            continue;
        }
        for (u32 columns = 0; columns < k; columns += a.lanes_a_token) {
            u32 index = token * k + columns + place, mine = 0xffffffff, count = k - columns < a.lanes_a_token ? k - columns : a.lanes_a_token;
            float weight = 1;
            if (token < first + tokens && columns + place < k) {
                i32 expert = choice_at(a, index);
                if (expert >= 0) mine = a.places[expert];
                if (a.weights) weight = a.weights[index];
            }
            if (k % 4 == 0 && count % 4 == 0) write_columns<4>(a, agreed, entry, columns, count, mine, weight);
            else write_columns<1>(a, agreed, entry, columns, count, mine, weight);
        }
    }
}

// Tells each rank which of its rows are this token's, in the order in which it sums them.
DEVICE void write_groups(const DispatchArgs& a, const Agreed& agreed, u32 token) {
    u32 k = a.x.top_k;
    for (u32 g = lane_index(); g < k; g += WARP) {
        Entry group = a.summed[(u64)token * k + g];
        if (group.rank < 0) continue;
        i32* rows = agreed.regions[group.rank].groups + (i64)group.row * k;
        u32 count = 0;
        for (u32 e = 0; e < k; e++) {
            Entry entry = a.sent[(u64)token * k + e];
            if (entry.rank == group.rank) rows[count++] = entry.row;
        }
        if (count < k) rows[count] = -1;
    }
}

// Of this rank's own region: rows that nobody sends have no source, expert or weight; their bytes may be wanted zero. A thread of some.
DEVICE void fill_words(void* words, i64 begin, i64 end, u32 value, u32 thread, u32 threads) {
    ROLLED for (i64 i = begin + thread; i < end; i += threads) ((u32*)words)[i] = value;
}

DEVICE void write_absent(const DispatchArgs& a, const Region& region, i64 begin, i64 end, u32 thread, u32 threads) {
    i64 columns = is_expert_major(a) ? 1 : a.x.top_k;
    fill_words(region.sources, 2 * begin, 2 * end, 0xffffffff, thread, threads);
    fill_words(region.indices, columns * begin, columns * end, 0xffffffff, thread, threads);
    fill_words(region.weights, columns * begin, columns * end, 0, thread, threads);
}

DEVICE void write_zeros(const DispatchArgs& a, const Region& region, i64 begin, i64 end, u32 thread, u32 threads) {
    ROLLED for (i64 i = begin * a.row_bytes / 16 + thread; i < end * a.row_bytes / 16; i += threads) st_16(region.rows + i * 16, {});
    if (!a.mine.signature.scale_layout) {
        ROLLED for (i64 i = begin * a.scale_bytes + thread; i < end * a.scale_bytes; i += threads) region.scales[i] = 0;
        return;
    }
    for (u32 scale = 0; scale < a.scale_bytes / a.scale_size; scale++)
        ROLLED for (i64 i = begin * a.scale_size + thread; i < end * a.scale_size; i += threads) region.scales[scale * region.scale_column + i] = 0;
}

DEVICE void write_padding(const DispatchArgs& a, const Agreed& agreed, u32 thread, u32 threads) {
    u32 locals = agreed.locals_of(a.x.rank);
    const Region& region = agreed.regions[a.x.rank];
    const i32 *counts = tokens_per_expert(a.plan), *offsets = expert_offsets(a.plan, locals);
    for (u32 local = 0; local < locals && is_expert_major(a) && a.mine.signature.alignment > 1; local++) {
        i64 begin = offsets[local] + counts[local], end = offsets[local + 1];
        if (!is_cached(a)) write_absent(a, region, begin, end, thread, threads);
        if (a.zero_padding) write_zeros(a, region, begin, end, thread, threads);
    }
    if (!is_cached(a)) write_absent(a, region, agreed.plan.rows[a.x.rank], region.rows_in_all, thread, threads);
}

// What the movers leave to others: all that goes with the rows.
DEVICE void keep_books(const DispatchArgs& a, const Agreed& agreed, Chunk tokens, u32 clerk, u32 clerks) {
    u32 at_once = WARP / a.lanes_a_token;
    for (u32 token = tokens.begin + clerk * at_once; token < tokens.end && !is_cached(a); token += clerks * at_once)
        write_metadata(a, agreed, token, tokens.end - token < at_once ? tokens.end - token : at_once);
    for (u32 token = tokens.begin + clerk; token < tokens.end; token += clerks) {
        if (is_pre_reduced(a) && !is_cached(a)) write_groups(a, agreed, token);
        if (a.movers_scales || a.given_element != NOT_QUANTIZED) continue;
        if (a.scale_unit == 16) write_scales<uint4>(a, agreed, token);
        else if (a.scale_unit == 4) write_scales<u32>(a, agreed, token);
        else if (a.scale_unit == 2) write_scales<u16>(a, agreed, token);
        else if (a.scale_unit == 1) write_scales<u8>(a, agreed, token);
        else if (a.scale_unit == 8) write_scales<u64>(a, agreed, token);
    }
    write_padding(a, agreed, (block_index() * clerks + clerk) * WARP + lane_index(), block_count() * clerks * WARP);
}
