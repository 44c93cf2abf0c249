// A dispatch of one rank: counts its choices, tells all ranks, agrees with them where each row goes, and writes each row there once.
// Slots are prefixes over ranks and tokens: a pure function of the routing.
#include "exchange.cuh"

constexpr u32 THREADS = 512;
constexpr u32 WARPS = THREADS / WARP;
constexpr u32 STAGES = 2;
constexpr u32 RING_OFFSET = 256;      // the mbarriers of the movers come first: 8 bytes a stage and warp
constexpr u32 NOTHING_WRONG = 0xffffffff;

struct DispatchArgs {
    Exchange x;
    Announcement mine;
    const u8* rows;
    i64 row_stride;
    const u8* scales;        // or null
    i64 scale_stride;
    const void* indices;     // tokens x top-k; null in a cached dispatch
    const float* weights;    // tokens x top-k; null: 1 each
    Plan* plan;
    Entry* sent;             // tokens x top-k; rank-major: in order of rank, then none; expert-major: by choice
    Entry* summed;           // pre-reduced: tokens x top-k in order of rank; otherwise as sent
    i32* groups;             // pre-reduced: this rank's groups of rows to sum, kept for combines
    const u32* places;       // by expert: its rank << 16 | its local index there
    const i32* experts_of;   // by rank, then local index
    const i32* first_expert; // by rank: where its experts begin in experts_of; then the end
    i32* block_counts;       // by block: rows to each rank, choices of each expert, the first choice that is wrong
    u64* load;               // by local expert: choices of all dispatches
    i32* told_plan;          // the host's copy of the plan
    u64 tell;                // not 0: the host waits for the counts, under this number
    i32 receive_capacity;
    u32 tokens;
    u32 indices_are_wide;
    u32 row_bytes, piece_bytes, pieces;
    u32 movers;              // warps that move rows; the others write what belongs to them
    u32 scale_bytes, scale_size; // of a row, of one
    u32 awaits_readers;
    u32 zero_padding;
    u32 scale_unit;          // bytes of scales that are moved at a time: of column-major ones one scale; 0 without scales
    u32 lanes_a_token;       // that write what belongs to its rows; a power of two
    u32 ring_scales;         // bytes of scales that travel with their row; 0: the clerks move them
};

// A destination's region, from where its parts begin.
struct Region {
    u8* rows;
    u8* scales;
    i64 scale_column; // bytes from column to column
    i32* sources;
    i32* indices;
    float* weights;
    i32* counts;
    i32* groups;
    i64 rows_in_all;
};

// What a block knows of the call once all ranks have announced it.
struct Agreed {
    Region regions[MAX_RANKS];
    i32 base[MAX_RANKS];   // where this block's rows to a rank begin; rank-major, and groups of pre-reduced rows
    u64 refused;           // Refusal
    u32 refused_rank;
    i64 needed, available;
};

// ---- what a call is

DEVICE bool is_expert_major(const DispatchArgs& a) { return a.mine.signature.layout == EXPERT_MAJOR; }
DEVICE bool is_fixed(const DispatchArgs& a) { return (a.mine.signature.traits & FIXED_SHAPE) != 0; }
DEVICE bool is_pre_reduced(const DispatchArgs& a) { return (a.mine.signature.traits & PRE_REDUCE) != 0; }
DEVICE bool is_cached(const DispatchArgs& a) { return a.indices == nullptr; }
DEVICE u32 locals_of(const DispatchArgs& a, u32 rank) { return (u32)(a.first_expert[rank + 1] - a.first_expert[rank]); }
DEVICE i64 choice_at(const DispatchArgs& a, u32 index) { return a.indices_are_wide ? ((const i64*)a.indices)[index] : ((const i32*)a.indices)[index]; }
DEVICE i64 up(i64 value, i64 multiple) { return (value + multiple - 1) / multiple * multiple; }

// Rows of a rank's result: what it receives, or as many as can come.
DEVICE i64 result_rows(const DispatchArgs& a, u32 rank) {
    return is_fixed(a) ? a.receive_capacity + (a.mine.signature.alignment - 1ll) * locals_of(a, rank) : a.plan->rows[rank];
}

// This block's part of the tokens.
struct Chunk { u32 begin, end; };
DEVICE Chunk chunk_of(const DispatchArgs& a, u32 block) {
    return { (u32)((u64)block * a.tokens / block_count()), (u32)((u64)(block + 1) * a.tokens / block_count()) };
}
// A warp's part of a block's items.
DEVICE Chunk share_of(u32 items, u32 warp) { return { (u32)((u64)warp * items / WARPS), (u32)((u64)(warp + 1) * items / WARPS) }; }

// ---- counting

// Shared memory while rows are counted and placed, before it becomes the movers' rings.
struct Scratch {
    u32* of_ranks;   // by warp, then rank: its tokens that have rows there; then where they begin
    u16* of_experts; // by warp, then expert: its choices; then those of lower warps
    i32* all;        // by expert: choices; then those of all ranks
    i32* bases;      // by expert: where this block's rows begin
};
DEVICE Scratch scratch_in(u8* shared, const Exchange& x) {
    Scratch s;
    s.of_ranks = (u32*)shared;
    s.all = (i32*)(s.of_ranks + WARPS * MAX_RANKS);
    s.bases = s.all + x.experts;
    s.of_experts = (u16*)(s.bases + x.experts);
    return s;
}

constexpr u32 AT_ONCE = 8; // choices that are kept in registers

// Looks at a token's choices: the ranks that it has rows on, the first choice that is no expert or one twice; and counts them, where they are told apart
// by nothing else.
DEVICE u64 look_at(const DispatchArgs& a, u32 token, i32* counts, u32& wrong) {
    u32 k = a.x.top_k, begin = token * k;
    u64 ranks = 0;
    i64 chosen[AT_ONCE];
    for (u32 i = 0; i < AT_ONCE; i++) chosen[i] = i < k ? choice_at(a, begin + i) : -1;
#pragma unroll
    for (u32 i = 0; i < AT_ONCE; i++) {
        i64 expert = chosen[i];
        bool bad = expert < -1 || expert >= a.x.experts;
        for (u32 earlier = 0; earlier < i; earlier++) bad |= expert >= 0 && chosen[earlier] == expert;
        if (bad && begin + i < wrong) wrong = begin + i;
        if (expert < 0 || expert >= a.x.experts) continue;
        ranks |= 1ull << (a.places[expert] >> 16);
        if (counts) add_shared(shared_address(counts + expert), 1);
    }
    for (u32 i = AT_ONCE; i < k; i++) {
        i64 expert = choice_at(a, begin + i);
        bool bad = expert < -1 || expert >= a.x.experts;
        for (u32 earlier = 0; earlier < i && expert >= 0; earlier++) bad |= choice_at(a, begin + earlier) == expert;
        if (bad && begin + i < wrong) wrong = begin + i;
        if (expert < 0 || expert >= a.x.experts) continue;
        ranks |= 1ull << (a.places[expert] >> 16);
        if (counts) add_shared(shared_address(counts + expert), 1);
    }
    return ranks;
}

// Ordinals of a warp's tokens among its rows to each rank; lane r keeps the counts of ranks r and r + 32. With Places, writes entries.
template <bool Places> DEVICE void rank_pass(const DispatchArgs& a, Chunk tokens, u32* counts, Entry* entries, i32* of_experts, u32& wrong) {
    u32 lane = lane_index(), low = lower_lanes(), mine = counts[lane], upper = counts[lane + WARP];
    for (u32 first = tokens.begin; first < tokens.end; first += WARP) {
        u32 token = first + lane, written = 0;
        u64 ranks = token < tokens.end ? look_at(a, token, Places ? nullptr : of_experts, wrong) : 0;
        for (u32 rank = 0; rank < a.x.ranks; rank++) {
            bool is_there = (ranks >> rank & 1) != 0;
            u32 lanes = ballot(is_there);
            if (Places) {
                u32 begun = from_lane(rank < WARP ? mine : upper, rank % WARP);
                if (is_there) entries[token * a.x.top_k + written++] = { (i32)rank, (i32)(begun + (u32)__builtin_popcount(lanes & low)) };
            }
            u32 more = lane == rank % WARP ? (u32)__builtin_popcount(lanes) : 0;
            if (rank < WARP) mine += more;
            else upper += more;
        }
        if (Places && token < tokens.end) for (; written < a.x.top_k; written++) entries[token * a.x.top_k + written] = { -1, 0 };
    }
    counts[lane] = mine;
    counts[lane + WARP] = upper;
}

// The same among the choices of each expert, in order of tokens: a warp's choices by lanes in a row. With Places, writes entries.
template <bool Places> DEVICE void expert_pass(const DispatchArgs& a, Chunk choices, u16* counts, const i32* bases) {
    u32 lane = lane_index(), low = lower_lanes();
    for (u32 first = choices.begin; first < choices.end; first += WARP) {
        u32 index = first + lane;
        i64 expert = index < choices.end ? choice_at(a, index) : -1;
        bool chosen = expert >= 0 && expert < a.x.experts;
        u32 lanes = match_any(chosen ? (u32)expert : 0xffff0000 | lane);
        u32 begun = chosen ? counts[expert] : 0;
        sync_warp();
        if (chosen && (lanes & low) == 0) counts[expert] = (u16)(begun + (u32)__builtin_popcount(lanes));
        sync_warp();
        if (!Places || index >= choices.end) continue;
        Entry entry = { -1, 0 };
        if (chosen) entry = { (i32)(a.places[expert] >> 16), bases[expert] + (i32)(begun + (u32)__builtin_popcount(lanes & low)) };
        a.sent[index] = entry;
    }
}

DEVICE bool by_rank(const DispatchArgs& a) { return !is_expert_major(a) || is_pre_reduced(a); }

// Counts this block's choices by warp, and leaves the block's sums where the other blocks find them.
DEVICE void count_choices(const DispatchArgs& a, const Scratch& s, Chunk tokens) {
    SHARED static u32 wrong;
    u32 warp = warp_index(), k = a.x.top_k;
    for (u32 i = thread_index(); i < WARPS * MAX_RANKS; i += THREADS) s.of_ranks[i] = 0;
    for (u32 i = thread_index(); i < a.x.experts; i += THREADS) s.all[i] = 0;
    if (is_expert_major(a)) for (u32 i = thread_index(); i < WARPS * a.x.experts; i += THREADS) s.of_experts[i] = 0;
    if (thread_index() == 0) wrong = NOTHING_WRONG;
    sync_block();

    Chunk share = share_of(tokens.end - tokens.begin, warp);
    u32 begin = tokens.begin + share.begin, end = tokens.begin + share.end, bad = NOTHING_WRONG;
    rank_pass<false>(a, { begin, end }, s.of_ranks + warp * MAX_RANKS, nullptr, is_expert_major(a) ? nullptr : s.all, bad);
    if (bad != NOTHING_WRONG) min_shared(shared_address(&wrong), bad);
    if (is_expert_major(a)) expert_pass<false>(a, { begin * k, end * k }, s.of_experts + warp * a.x.experts, nullptr);
    sync_block();

    // Counts of warps become where each begins within the block.
    i32* sums = a.block_counts + (u64)block_index() * (a.x.ranks + a.x.experts + 1);
    for (u32 rank = thread_index(); rank < a.x.ranks; rank += THREADS) {
        u32 sum = 0;
        for (u32 w = 0; w < WARPS; w++) { u32 n = s.of_ranks[w * MAX_RANKS + rank]; s.of_ranks[w * MAX_RANKS + rank] = sum; sum += n; }
        sums[rank] = (i32)sum;
    }
    for (u32 expert = thread_index(); expert < a.x.experts; expert += THREADS) {
        u32 sum = (u32)s.all[expert];
        if (is_expert_major(a)) {
            sum = 0;
            for (u32 w = 0; w < WARPS; w++) { u32 n = s.of_experts[w * a.x.experts + expert]; s.of_experts[w * a.x.experts + expert] = (u16)sum; sum += n; }
        }
        sums[a.x.ranks + expert] = (i32)sum;
    }
    if (thread_index() == 0) sums[a.x.ranks + a.x.experts] = (i32)wrong;
}

DEVICE i32 sum_of_blocks(const DispatchArgs& a, u32 end, u32 column) {
    const i32* counts = a.block_counts + column;
    u32 stride = a.x.ranks + a.x.experts + 1, block = 0;
    i32 sum = 0;
    for (; block + AT_ONCE <= end; block += AT_ONCE) {
        i32 some[AT_ONCE];
        for (u32 i = 0; i < AT_ONCE; i++) some[i] = ld_others(counts + (u64)(block + i) * stride);
        for (u32 i = 0; i < AT_ONCE; i++) sum += some[i];
    }
    for (; block < end; block++) sum += ld_others(counts + (u64)block * stride);
    return sum;
}

// The last block to have counted tells all ranks.
DEVICE bool announce_counts(const DispatchArgs& a, const Scratch& s, u64 epoch) {
    SHARED static Announcement mine;
    SHARED static i32 tokens_to[MAX_RANKS];
    if (a.awaits_readers && !await_readers(a.x, a.mine.signature.operation, epoch)) return false;
    if (thread_index() == 0) {
        mine = a.mine;
        u32 wrong = NOTHING_WRONG;
        for (u32 block = 0; block < block_count() && !is_cached(a); block++) {
            u32 first = (u32)ld_others(a.block_counts + (u64)block * (a.x.ranks + a.x.experts + 1) + a.x.ranks + a.x.experts);
            if (first < wrong) wrong = first;
        }
        if (wrong != NOTHING_WRONG) {
            mine.needed = -1 - (i64)(wrong / a.x.top_k);
            mine.available = choice_at(a, wrong);
        }
    }
    if (!is_cached(a)) {
        for (u32 i = thread_index(); i < a.x.ranks; i += THREADS) tokens_to[i] = sum_of_blocks(a, block_count(), i);
        // Into a place of its own: the block's own sums are not done with.
        for (u32 i = thread_index(); i < a.x.experts; i += THREADS) s.bases[i] = sum_of_blocks(a, block_count(), a.x.ranks + i);
    }
    sync_block();
    announce(a.x, mine, epoch, is_cached(a) ? nullptr : tokens_to, s.bases);
    return true;
}

// ---- agreeing

// Sums every rank's counts, and forms where this block's rows begin; false where a rank's counts cannot be.
DEVICE bool take_counts(const DispatchArgs& a, const Scratch& s, Agreed& agreed, u64 epoch) {
    const Exchange& x = a.x;
    u32 bad = x.ranks;
    for (u32 to = thread_index(); to < x.ranks; to += THREADS) {
        i64 all = 0, lower = 0;
        for (u32 from = 0; from < x.ranks; from++) {
            i32 tokens = ld_others(rank_counts(x, entry_at(x, x.rank, from, epoch)) + to);
            if (tokens < 0 || tokens > MAX_TOKENS) bad = from;
            if (from == x.rank) lower = all;
            all += tokens;
            if (to == x.rank) a.plan->tokens_from[from] = tokens;
        }
        a.plan->tokens[to] = all;
        if (!is_expert_major(a)) a.plan->rows[to] = all;
        agreed.base[to] = (i32)lower + sum_of_blocks(a, block_index(), to);
    }
    for (u32 expert = thread_index(); expert < x.experts; expert += THREADS) {
        i64 all = 0, lower = 0;
        for (u32 from = 0; from < x.ranks; from++) {
            i32 choices = ld_others(expert_counts(x, entry_at(x, x.rank, from, epoch)) + expert);
            if (choices < 0 || choices > MAX_TOKENS) bad = from;
            if (from == x.rank) lower = all;
            all += choices;
        }
        s.all[expert] = (i32)all;
        s.bases[expert] = (i32)lower + (is_expert_major(a) ? sum_of_blocks(a, block_index(), x.ranks + expert) : 0);
    }
    if (bad < x.ranks) raise(x, fault_of(PROTOCOL, DISPATCH, AWAIT_ANNOUNCEMENT, epoch, bad, MAX_TOKENS, -1));
    return !any_of_block(bad < x.ranks);
}

// A warp a rank: where its experts begin, and so how many rows it receives.
DEVICE void place_experts(const DispatchArgs& a, const Scratch& s, u64 epoch) {
    const Exchange& x = a.x;
    u32 lane = lane_index();
    i64 alignment = a.mine.signature.alignment;
    for (u32 rank = warp_index(); rank < x.ranks; rank += WARPS) {
        u32 locals = locals_of(a, rank), first = (u32)a.first_expert[rank], start = 0;
        for (u32 local = lane; local - lane < locals; local += WARP) {
            u32 expert = local < locals ? (u32)a.experts_of[first + local] : 0;
            u32 choices = local < locals ? (u32)s.all[expert] : 0, aligned = (u32)up(choices, alignment), sum = aligned;
            for (u32 distance = 1; distance < WARP; distance *= 2) {
                u32 below = from_lower_lane(sum, distance);
                if (lane >= distance) sum += below;
            }
            if (local < locals) {
                if (rank == x.rank) {
                    tokens_per_expert(a.plan)[local] = (i32)choices;
                    expert_offsets(a.plan, locals)[local] = (i32)(start + sum - aligned);
                }
                s.bases[expert] += (i32)(start + sum - aligned);
            }
            start += from_lane(sum, WARP - 1);
        }
        if (lane == 0 && rank == x.rank) expert_offsets(a.plan, locals)[locals] = (i32)start;
        if (lane == 0 && is_expert_major(a)) a.plan->rows[rank] = start;
        // How many rows this rank sends there, and how many come from there.
        u32 sent = 0, received = 0, mine = locals_of(a, x.rank);
        const i32 *own = expert_counts(x, entry_at(x, x.rank, x.rank, epoch)), *theirs = expert_counts(x, entry_at(x, x.rank, rank, epoch));
        for (u32 local = lane; local < locals; local += WARP) sent += (u32)ld_others(own + a.experts_of[first + local]);
        for (u32 local = lane; local < mine; local += WARP) received += (u32)ld_others(theirs + a.experts_of[(u32)a.first_expert[x.rank] + local]);
        for (u32 mask = WARP / 2; mask > 0; mask /= 2) {
            sent += (u32)__nvvm_shfl_sync_bfly_i32(ALL_LANES, (i32)sent, (i32)mask, 31);
            received += (u32)__nvvm_shfl_sync_bfly_i32(ALL_LANES, (i32)received, (i32)mask, 31);
        }
        if (lane != 0) continue;
        if (!is_expert_major(a)) sent = (u32)ld_others(rank_counts(x, entry_at(x, x.rank, x.rank, epoch)) + rank);
        if (!is_expert_major(a)) received = (u32)ld_others(rank_counts(x, entry_at(x, x.rank, rank, epoch)) + x.rank);
        a.plan->sent_to[rank] = (i32)sent;
        a.plan->received_from[rank] = (i32)received;
    }
}

// The same verdict on all ranks, before a row moves; by a warp, two ranks a lane.
DEVICE void judge(const DispatchArgs& a, Agreed& agreed, u64 epoch) {
    Refusal why = GRANTED;
    u32 rank;
    i64 needed, available;
    if (!someone_cannot(a.x, epoch, why, rank, needed, available)) {
        rank = first_rank(a.x, [&](u32 each) INLINED { return a.plan->rows[each] > entry_at(a.x, a.x.rank, each, epoch)->region_rows; });
        if (rank < a.x.ranks) {
            why = NO_ROWS;
            needed = a.plan->rows[rank];
            available = entry_at(a.x, a.x.rank, rank, epoch)->region_rows;
        }
    }
    if (lane_index() != 0) return;
    agreed.refused = why;
    agreed.refused_rank = rank;
    agreed.needed = needed;
    agreed.available = available;
}

// As Arena/RegionLayout.cs lays a region out; conformance holds the two together.
DEVICE Region region_at(const DispatchArgs& a, u32 rank, i64 offset, i64& bytes) {
    i64 rows = result_rows(a, rank), columns = is_expert_major(a) ? 1 : a.x.top_k;
    i64 scale_column = a.scale_bytes == 0 ? 0 : up(rows, 16 / a.scale_size) * a.scale_size;
    i64 scales = up(rows * a.row_bytes, LINE);
    i64 sources = up(scales + (a.mine.signature.scale_layout ? a.scale_bytes / (a.scale_size ? a.scale_size : 1) * scale_column : rows * a.scale_bytes), LINE);
    i64 indices = up(sources + rows * 8, LINE), weights = up(indices + rows * columns * 4, LINE), counts = up(weights + rows * columns * 4, LINE);
    i64 groups = up(counts + (is_fixed(a) ? 8 + 8ll * locals_of(a, rank) : 0), LINE);
    bytes = up(groups + (is_pre_reduced(a) ? a.plan->tokens[rank] * a.x.top_k * 4 : 0), LINE);
    u8* region = a.x.arenas[rank] + offset;
    return { region, region + scales, scale_column, (i32*)(region + sources), (i32*)(region + indices), (float*)(region + weights), (i32*)(region + counts), (i32*)(region + groups), rows };
}

// False where a region is not in its owner's pool.
DEVICE bool locate(const DispatchArgs& a, Agreed& agreed, u64 epoch) {
    bool bad = false;
    u32 rank = thread_index();
    if (rank < a.x.ranks) {
        i64 bytes, offset = entry_at(a.x, a.x.rank, rank, epoch)->region_offset;
        agreed.regions[rank] = region_at(a, rank, offset, bytes);
        bad = !is_in_pool(a.x, offset, bytes);
        if (bad) raise(a.x, fault_of(PROTOCOL, a.mine.signature.operation, AWAIT_ANNOUNCEMENT, epoch, rank, a.x.total_bytes - bytes, offset));
    }
    return !any_of_block(bad);
}

// ---- writing

// A warp moves whole rows: the next is loaded while the last is stored to all its destinations.
DEVICE void move_rows(const DispatchArgs& a, const Agreed& agreed, Chunk tokens, u32 mover, u32 shared) {
    u32 lane = lane_index(), k = a.x.top_k;
    u32 pitch = a.piece_bytes + a.ring_scales; // where scales travel with their row they lie behind it
    u32 barriers = shared + mover * STAGES * 8, ring = shared + RING_OFFSET + mover * STAGES * pitch;
    if (lane == 0) {
        for (u32 stage = 0; stage < STAGES; stage++) mbarrier_init(barriers + 8 * stage, 1);
        mbarrier_init_fence();
    }
    sync_warp();
    u32 first = tokens.begin + mover;
    if (first >= tokens.end) return;
    u32 items = (tokens.end - first + a.movers - 1) / a.movers * a.pieces;
    auto load = [&](u32 item) INLINED {
        u32 offset = item % a.pieces * a.piece_bytes, left = a.row_bytes - offset, bytes = left < a.piece_bytes ? left : a.piece_bytes;
        u32 barrier = barriers + 8 * (item % STAGES);
        i64 token = first + item / a.pieces * a.movers;
        mbarrier_arrive_expect(barrier, bytes + a.ring_scales);
        bulk_load(ring + item % STAGES * pitch, a.rows + token * a.row_stride + offset, bytes, barrier);
        if (a.ring_scales) bulk_load(ring + item % STAGES * pitch + a.piece_bytes, a.scales + token * a.scale_stride, a.ring_scales, barrier);
    };
    auto store = [&](Entry entry, u32 stage, u32 offset, u32 bytes) INLINED {
        if (entry.rank < 0) return;
        const Region& region = agreed.regions[entry.rank];
        bulk_store(region.rows + (i64)entry.row * a.row_bytes + offset, stage, bytes);
        if (a.ring_scales) bulk_store(region.scales + (i64)entry.row * a.scale_bytes, stage + a.piece_bytes, a.ring_scales);
    };
    if (lane == 0) load(0);
    for (u32 item = 0; item < items; item++) {
        u32 token = first + item / a.pieces * a.movers, offset = item % a.pieces * a.piece_bytes;
        u32 left = a.row_bytes - offset, bytes = left < a.piece_bytes ? left : a.piece_bytes;
        const Entry* entries = a.sent + (u64)token * k;
        Entry entry = { -1, 0 };
        if (lane < k) entry = entries[lane];
        mbarrier_wait(barriers + 8 * (item % STAGES), item / STAGES % 2);
        u32 stage = ring + item % STAGES * pitch;
        store(entry, stage, offset, bytes);
        if (lane + WARP < k) store(entries[lane + WARP], stage, offset, bytes);
        bulk_commit();
        if (item + 1 == items) break;
        bulk_wait_read<1>();
        sync_warp();
        if (lane == 0) load(item + 1);
    }
    bulk_wait<0>();
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

// As many columns of a lane's row as tokens' lanes hold, some in one store.
template <u32 Width> DEVICE void write_columns(const Region& region, i32 rank, i64 at, u32 end, u32 leader, u32 mine, float weight) {
    for (u32 column = 0; column < end; column += Width) {
        struct alignas(4 * Width) { i32 v[Width]; } indices;
        struct alignas(4 * Width) { float v[Width]; } weights;
        for (u32 i = 0; i < Width; i++) {
            u32 place = from_lane(mine, leader + column + i);
            float carried = from_lane(weight, leader + column + i);
            bool is_here = place >> 16 == (u32)rank;
            indices.v[i] = is_here ? (i32)(place & 0xffff) : -1;
            weights.v[i] = is_here ? carried : 0;
        }
        if (rank < 0) continue;
        *(decltype(indices)*)(region.indices + at + column) = indices;
        *(decltype(weights)*)(region.weights + at + column) = weights;
    }
}

// Several tokens at a time: a lane for each place of a token, which writes the row that is there: its source, and for each column the expert here
// that was chosen and its weight, or none.
DEVICE void write_metadata(const DispatchArgs& a, const Agreed& agreed, u32 first, u32 tokens) {
    u32 k = a.x.top_k, place = lane_index() % a.lanes_a_token, token = first + lane_index() / a.lanes_a_token, leader = lane_index() - place;
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
            u32 index = token * k + columns + place, mine = 0xffffffff;
            float weight = 1;
            if (token < first + tokens && columns + place < k) {
                i64 expert = choice_at(a, index);
                if (expert >= 0) mine = a.places[expert];
                if (a.weights) weight = a.weights[index];
            }
            u32 end = k - columns < a.lanes_a_token ? k - columns : a.lanes_a_token;
            i64 at = (i64)entry.row * k + columns;
            if (k % 4 == 0 && end % 4 == 0) write_columns<4>(region, entry.rank, at, end, leader, mine, weight);
            else write_columns<1>(region, entry.rank, at, end, leader, mine, weight);
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
    for (i64 i = begin + thread; i < end; i += threads) ((u32*)words)[i] = value;
}

DEVICE void write_absent(const DispatchArgs& a, const Region& region, i64 begin, i64 end, u32 thread, u32 threads) {
    i64 columns = is_expert_major(a) ? 1 : a.x.top_k;
    fill_words(region.sources, 2 * begin, 2 * end, 0xffffffff, thread, threads);
    fill_words(region.indices, columns * begin, columns * end, 0xffffffff, thread, threads);
    fill_words(region.weights, columns * begin, columns * end, 0, thread, threads);
}

DEVICE void write_zeros(const DispatchArgs& a, const Region& region, i64 begin, i64 end, u32 thread, u32 threads) {
    for (i64 i = begin * a.row_bytes / 16 + thread; i < end * a.row_bytes / 16; i += threads) st_16(region.rows + i * 16, {});
    if (!a.mine.signature.scale_layout) {
        for (i64 i = begin * a.scale_bytes + thread; i < end * a.scale_bytes; i += threads) region.scales[i] = 0;
        return;
    }
    for (u32 scale = 0; scale < a.scale_bytes / a.scale_size; scale++)
        for (i64 i = begin * a.scale_size + thread; i < end * a.scale_size; i += threads) region.scales[scale * region.scale_column + i] = 0;
}

DEVICE void write_padding(const DispatchArgs& a, const Region& region, u32 thread, u32 threads) {
    u32 locals = locals_of(a, a.x.rank);
    const i32 *counts = tokens_per_expert(a.plan), *offsets = expert_offsets(a.plan, locals);
    for (u32 local = 0; local < locals && is_expert_major(a) && a.mine.signature.alignment > 1; local++) {
        i64 begin = offsets[local] + counts[local], end = offsets[local + 1];
        if (!is_cached(a)) write_absent(a, region, begin, end, thread, threads);
        if (a.zero_padding) write_zeros(a, region, begin, end, thread, threads);
    }
    if (!is_cached(a)) write_absent(a, region, a.plan->rows[a.x.rank], region.rows_in_all, thread, threads);
}

// What the movers leave to others: all that goes with the rows.
DEVICE void keep_books(const DispatchArgs& a, const Agreed& agreed, Chunk tokens, u32 clerk, u32 clerks) {
    u32 at_once = WARP / a.lanes_a_token;
    for (u32 token = tokens.begin + clerk * at_once; token < tokens.end && !is_cached(a); token += clerks * at_once)
        write_metadata(a, agreed, token, tokens.end - token < at_once ? tokens.end - token : at_once);
    for (u32 token = tokens.begin + clerk; token < tokens.end; token += clerks) {
        if (is_pre_reduced(a) && !is_cached(a)) write_groups(a, agreed, token);
        if (a.ring_scales) continue;
        if (a.scale_unit == 16) write_scales<uint4>(a, agreed, token);
        else if (a.scale_unit == 4) write_scales<u32>(a, agreed, token);
        else if (a.scale_unit == 2) write_scales<u16>(a, agreed, token);
        else if (a.scale_unit == 1) write_scales<u8>(a, agreed, token);
        else if (a.scale_unit == 8) write_scales<u64>(a, agreed, token);
    }
    write_padding(a, agreed.regions[a.x.rank], (block_index() * clerks + clerk) * WARP + lane_index(), block_count() * clerks * WARP);
}

// ---- telling

// By the first block: the counts, to whoever reads them on this rank.
DEVICE void publish_counts(const DispatchArgs& a, const Agreed& agreed) {
    const Exchange& x = a.x;
    u32 locals = locals_of(a, x.rank), numbers = 2 * locals + 1;
    if (!is_cached(a)) for (u32 i = thread_index(); i < locals; i += THREADS) a.load[i] += (u64)tokens_per_expert(a.plan)[i];
    if (is_fixed(a) && !is_cached(a)) {
        i32* counts = agreed.regions[x.rank].counts;
        for (u32 i = thread_index(); i <= numbers; i += THREADS)
            counts[i] = i == 0 ? (i32)a.plan->rows[x.rank] : i <= locals || is_expert_major(a) ? tokens_per_expert(a.plan)[i - 1] : 0;
    }
    if (a.tell == 0) return;
    u32 words = sizeof(Plan) / 4 + numbers;
    for (u32 i = thread_index(); i < words; i += THREADS) st_relaxed_sys((u32*)a.told_plan + i, ((const u32*)a.plan)[i]);
    sync_block();
    if (thread_index() == 0) st_release_sys(&x.control->told, a.tell);
}

// By the last block: a call that was refused brings nothing, so its plan has no rows anywhere.
DEVICE void refuse(const DispatchArgs& a, const Agreed& agreed) {
    if (!is_cached(a)) {
        for (u32 i = thread_index(); i < a.tokens * a.x.top_k; i += THREADS) a.sent[i] = a.summed[i] = { -1, 0 };
        for (u32 i = thread_index(); i < sizeof(Plan) / 4 + 2 * locals_of(a, a.x.rank) + 1; i += THREADS) ((u32*)a.plan)[i] = 0;
        if (is_fixed(a) && a.mine.needed == 0) {
            i64 bytes;
            Region region = region_at(a, a.x.rank, a.mine.region_offset, bytes);
            write_absent(a, region, 0, region.rows_in_all, thread_index(), THREADS);
            fill_words(region.counts, 0, 2 + 2 * locals_of(a, a.x.rank), 0, thread_index(), THREADS);
        }
    }
    if (thread_index() != 0) return;
    tell_refusal(a.x, a.mine.signature.operation, (Refusal)agreed.refused, agreed.refused_rank, agreed.needed, agreed.available);
    if (a.tell != 0) st_release_sys(&a.x.control->told, a.tell);
}

// The last block to have written: tells each rank that it has all rows of this one, and awaits those of the others.
DEVICE bool signal_rows(const DispatchArgs& a, u64 epoch) {
    u32 peer = thread_index();
    bool failed = false;
    if (peer < a.x.ranks) {
        i32 sent = ld_others(a.plan->sent_to + peer), expected = ld_others(a.plan->received_from + peer);
        if (sent > 0) st_release_sys(arrival_at(a.x, peer, a.x.rank), epoch_word(epoch, (u32)sent));
        u64 word;
        failed = expected > 0 && !await(a.x, arrival_at(a.x, a.x.rank, peer), epoch, peer, a.mine.signature.operation, AWAIT_ROWS, epoch, &word);
        if (!failed && expected > 0 && (epochs_past(word, epoch) != 0 || count_of(word) != (u32)expected)) {
            raise(a.x, fault_of(PROTOCOL, a.mine.signature.operation, AWAIT_ROWS, epoch, peer, expected, count_of(word)));
            failed = true;
        }
    }
    return !any_of_block(failed);
}

// Takes the groups that the senders wrote out of memory that they can write, checked. They are in order of their tokens' ranks.
DEVICE bool take_groups(const DispatchArgs& a, const Region& region, u64 epoch) {
    bool bad = false;
    i64 numbers = a.plan->tokens[a.x.rank] * a.x.top_k, rows = a.plan->rows[a.x.rank];
    for (i64 i = thread_index(); i < numbers; i += THREADS) {
        i32 row = ld_others(region.groups + i);
        a.groups[i] = row;
        bool ended = false;
        for (i64 before = i - i % a.x.top_k; before < i && !ended; before++) ended = ld_others(region.groups + before) == -1;
        if (ended || (row >= -1 && row < rows)) continue;
        i64 group = i / a.x.top_k;
        u32 source = 0;
        while (source + 1 < a.x.ranks && group >= a.plan->tokens_from[source]) group -= a.plan->tokens_from[source++];
        raise(a.x, fault_of(PROTOCOL, DISPATCH, AWAIT_ROWS, epoch, source, rows, row));
        bad = true;
    }
    return !any_of_block(bad);
}

KERNEL(THREADS) dispatch(const DispatchArgs a) {
    DYNAMIC_SHARED(shared);
    SHARED static Agreed agreed;
    if (is_over(a.x)) return;
    u64 epoch = ld_relaxed_gpu(&a.x.state->epoch) + 1;
    Chunk tokens = chunk_of(a, block_index());
    Scratch scratch = scratch_in(shared, a.x);
    u32 warp = warp_index();

    if (!is_cached(a)) count_choices(a, scratch, tokens);
    if (is_last_block(&a.x.state->begun) && !announce_counts(a, scratch, epoch)) return;
    if (!hear(a.x, a.mine.signature, epoch)) return;
    if (!is_cached(a)) {
        if (!take_counts(a, scratch, agreed, epoch)) return;
        place_experts(a, scratch, epoch);
        sync_block();
    }
    if (warp == 0) judge(a, agreed, epoch);
    sync_block();
    bool refused = agreed.refused != GRANTED;
    if (!refused) {
        if (!locate(a, agreed, epoch)) return;
        if (block_index() == 0) publish_counts(a, agreed);
        if (!is_cached(a)) {
            Chunk share = share_of(tokens.end - tokens.begin, warp);
            u32 begin = tokens.begin + share.begin, end = tokens.begin + share.end, k = a.x.top_k;
            if (is_expert_major(a)) expert_pass<true>(a, { begin * k, end * k }, scratch.of_experts + warp * a.x.experts, scratch.bases);
            if (by_rank(a)) {
                u32* counts = scratch.of_ranks + warp * MAX_RANKS;
                for (u32 rank = lane_index(); rank < a.x.ranks; rank += WARP) counts[rank] += (u32)agreed.base[rank];
                sync_warp();
                u32 wrong;
                rank_pass<true>(a, { begin, end }, counts, a.summed, nullptr, wrong);
            }
            fence_proxy_async_shared();
            sync_block();
        }
        if (warp < a.movers) move_rows(a, agreed, tokens, warp, shared_address(shared));
        else keep_books(a, agreed, tokens, warp - a.movers, WARPS - a.movers);
    }
    if (!is_last_block(&a.x.state->finished)) return;
    if (refused) refuse(a, agreed);
    else if (!signal_rows(a, epoch) || (is_pre_reduced(a) && !is_cached(a) && !take_groups(a, agreed.regions[a.x.rank], epoch))) return;
    if (thread_index() == 0) st_relaxed_gpu(&a.x.state->epoch, epoch);
}
