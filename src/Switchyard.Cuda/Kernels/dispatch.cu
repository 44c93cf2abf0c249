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
    u32 unused;
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

// The ranks that a token has rows on, a bit each.
DEVICE u64 ranks_of(const DispatchArgs& a, u32 token) {
    u64 ranks = 0;
    for (u32 k = 0; k < a.x.top_k; k++) {
        i64 expert = choice_at(a, token * a.x.top_k + k);
        if (expert >= 0 && expert < a.x.experts) ranks |= 1ull << (a.places[expert] >> 16);
    }
    return ranks;
}

// The token's first choice that is no expert or one twice.
DEVICE u32 first_wrong(const DispatchArgs& a, u32 token) {
    for (u32 k = 0; k < a.x.top_k; k++) {
        i64 expert = choice_at(a, token * a.x.top_k + k);
        bool wrong = expert < -1 || expert >= a.x.experts;
        for (u32 earlier = 0; earlier < k && expert >= 0; earlier++) wrong |= choice_at(a, token * a.x.top_k + earlier) == expert;
        if (wrong) return token * a.x.top_k + k;
    }
    return NOTHING_WRONG;
}

// Ordinals of a warp's tokens among its rows to each rank; lane r keeps the counts of ranks r and r + 32. With Places, writes entries.
template <bool Places> DEVICE void rank_pass(const DispatchArgs& a, Chunk tokens, u32* counts, Entry* entries) {
    u32 lane = lane_index(), low = lower_lanes(), mine = counts[lane], upper = counts[lane + WARP];
    for (u32 first = tokens.begin; first < tokens.end; first += WARP) {
        u32 token = first + lane, written = 0;
        u64 ranks = token < tokens.end ? ranks_of(a, token) : 0;
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
    for (u32 token = tokens.begin + share.begin + lane_index(); token < tokens.begin + share.end; token += WARP) {
        u32 bad = first_wrong(a, token);
        if (bad != NOTHING_WRONG) min_shared(shared_address(&wrong), bad);
    }
    rank_pass<false>(a, { tokens.begin + share.begin, tokens.begin + share.end }, s.of_ranks + warp * MAX_RANKS, nullptr);
    if (is_expert_major(a)) {
        expert_pass<false>(a, { (tokens.begin + share.begin) * k, (tokens.begin + share.end) * k }, s.of_experts + warp * a.x.experts, nullptr);
    } else {
        for (u32 index = (tokens.begin + share.begin) * k + lane_index(); index < (tokens.begin + share.end) * k; index += WARP) {
            i64 expert = choice_at(a, index);
            if (expert >= 0 && expert < a.x.experts) add_shared(shared_address(s.all + expert), 1);
        }
    }
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
    constexpr u32 AT_ONCE = 8;
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

// The same verdict on all ranks, before a row moves; by one thread.
DEVICE void judge(const DispatchArgs& a, Agreed& agreed, u64 epoch) {
    Refusal why = GRANTED;
    u32 rank;
    if (!someone_cannot(a.x, epoch, why, rank, agreed.needed, agreed.available)) {
        for (rank = 0; rank < a.x.ranks; rank++) {
            agreed.needed = a.plan->rows[rank];
            agreed.available = entry_at(a.x, a.x.rank, rank, epoch)->region_rows;
            if (agreed.needed <= agreed.available) continue;
            why = NO_ROWS;
            break;
        }
    }
    agreed.refused = why;
    agreed.refused_rank = rank;
}

// As Arena/RegionLayout.cs lays a region out; conformance holds the two together. False where a region is not in its owner's pool.
DEVICE bool locate(const DispatchArgs& a, Agreed& agreed, u64 epoch) {
    bool bad = false;
    u32 rank = thread_index();
    if (rank < a.x.ranks) {
        bool pre_reduced = is_pre_reduced(a), expert_major = is_expert_major(a);
        i64 rows = result_rows(a, rank), columns = expert_major ? 1 : a.x.top_k, offset = entry_at(a.x, a.x.rank, rank, epoch)->region_offset;
        i64 scale_column = a.scale_bytes == 0 ? 0 : up(rows, 16 / a.scale_size) * a.scale_size;
        i64 scales = up(rows * a.row_bytes, LINE);
        i64 sources = up(scales + (a.mine.signature.scale_layout ? a.scale_bytes / (a.scale_size ? a.scale_size : 1) * scale_column : rows * a.scale_bytes), LINE);
        i64 indices = up(sources + rows * 8, LINE), weights = up(indices + rows * columns * 4, LINE), counts = up(weights + rows * columns * 4, LINE);
        i64 groups = up(counts + (is_fixed(a) ? 8 + 8ll * locals_of(a, rank) : 0), LINE);
        i64 bytes = up(groups + (pre_reduced ? a.plan->tokens[rank] * a.x.top_k * 4 : 0), LINE);
        bad = !is_in_pool(a.x, offset, bytes);
        u8* region = a.x.arenas[rank] + offset;
        agreed.regions[rank] = { region, region + scales, scale_column, (i32*)(region + sources), (i32*)(region + indices), (float*)(region + weights), (i32*)(region + counts), (i32*)(region + groups), rows };
        if (bad) raise(a.x, fault_of(PROTOCOL, a.mine.signature.operation, AWAIT_ANNOUNCEMENT, epoch, rank, a.x.total_bytes - bytes, offset));
    }
    return !any_of_block(bad);
}

// ---- writing

// A warp moves whole rows: the next is loaded while the last is stored to all its destinations.
DEVICE void move_rows(const DispatchArgs& a, const Agreed& agreed, Chunk tokens, u32 mover, u32 shared) {
    u32 lane = lane_index(), k = a.x.top_k;
    u32 barriers = shared + mover * STAGES * 8, ring = shared + RING_OFFSET + mover * STAGES * a.piece_bytes;
    if (lane == 0) {
        for (u32 stage = 0; stage < STAGES; stage++) mbarrier_init(barriers + 8 * stage, 1);
        mbarrier_init_fence();
    }
    sync_warp();
    u32 first = tokens.begin + mover;
    if (first >= tokens.end) return;
    u32 items = (tokens.end - first + a.movers - 1) / a.movers * a.pieces;
    auto load = [&](u32 item) {
        u32 offset = item % a.pieces * a.piece_bytes, left = a.row_bytes - offset, bytes = left < a.piece_bytes ? left : a.piece_bytes;
        u32 barrier = barriers + 8 * (item % STAGES);
        mbarrier_arrive_expect(barrier, bytes);
        bulk_load(ring + item % STAGES * a.piece_bytes, a.rows + (i64)(first + item / a.pieces * a.movers) * a.row_stride + offset, bytes, barrier);
    };
    if (lane == 0) load(0);
    for (u32 item = 0; item < items; item++) {
        u32 token = first + item / a.pieces * a.movers, offset = item % a.pieces * a.piece_bytes;
        u32 left = a.row_bytes - offset, bytes = left < a.piece_bytes ? left : a.piece_bytes;
        const Entry* entries = a.sent + (u64)token * k;
        Entry entry = { -1, 0 };
        if (lane < k) entry = entries[lane];
        mbarrier_wait(barriers + 8 * (item % STAGES), item / STAGES % 2);
        u32 stage = ring + item % STAGES * a.piece_bytes;
        if (entry.rank >= 0) bulk_store(agreed.regions[entry.rank].rows + (i64)entry.row * a.row_bytes + offset, stage, bytes);
        if (lane + WARP < k) {
            entry = entries[lane + WARP];
            if (entry.rank >= 0) bulk_store(agreed.regions[entry.rank].rows + (i64)entry.row * a.row_bytes + offset, stage, bytes);
        }
        bulk_commit();
        if (item + 1 == items) break;
        bulk_wait_read<1>();
        sync_warp();
        if (lane == 0) load(item + 1);
    }
    bulk_wait<0>();
}

template <class T> DEVICE void copy_spread(u8* to, const u8* from, u32 bytes) {
    for (u32 i = lane_index(); i < bytes / sizeof(T); i += WARP) ((T*)to)[i] = ((const T*)from)[i];
}

DEVICE void write_scales(const DispatchArgs& a, const Region& region, u32 token, i32 row) {
    const u8* from = a.scales + (i64)token * a.scale_stride;
    if (!a.mine.signature.scale_layout) {
        u8* to = region.scales + (i64)row * a.scale_bytes;
        if ((((u64)to | (u64)from | a.scale_bytes) & 3) == 0) copy_spread<u32>(to, from, a.scale_bytes);
        else copy_spread<u8>(to, from, a.scale_bytes);
        return;
    }
    u8* to = region.scales + (i64)row * a.scale_size;
    for (u32 scale = lane_index(); scale < a.scale_bytes / a.scale_size; scale += WARP) {
        u8* there = to + scale * region.scale_column;
        const u8* here = from + scale * a.scale_size;
        if (a.scale_size == 4 && ((u64)here & 3) == 0) *(u32*)there = *(const u32*)here;
        else for (u32 i = 0; i < a.scale_size; i++) there[i] = here[i];
    }
}

// By a warp: a row's source, and for each column the expert here that was chosen and its weight, or none.
DEVICE void write_metadata(const DispatchArgs& a, const Agreed& agreed, u32 token) {
    u32 k = a.x.top_k;
    const Entry* entries = a.sent + (u64)token * k;
    for (u32 e = lane_index(); e < k; e += WARP) {
        Entry entry = entries[e];
        if (entry.rank < 0) continue;
        const Region& region = agreed.regions[entry.rank];
        region.sources[2 * (i64)entry.row] = (i32)a.x.rank;
        region.sources[2 * (i64)entry.row + 1] = (i32)token;
        if (!is_expert_major(a)) continue;
        region.indices[entry.row] = (i32)(a.places[choice_at(a, token * k + e)] & 0xffff);
        region.weights[entry.row] = a.weights ? a.weights[token * k + e] : 1;
    }
    if (is_expert_major(a)) return;
    for (u32 i = lane_index(); i < k * k; i += WARP) {
        Entry entry = entries[i / k];
        if (entry.rank < 0) continue;
        u32 column = i % k;
        i64 expert = choice_at(a, token * k + column), at = (i64)entry.row * k + column;
        u32 place = expert < 0 ? 0xffffffff : a.places[expert];
        bool is_here = place >> 16 == (u32)entry.rank;
        const Region& region = agreed.regions[entry.rank];
        region.indices[at] = is_here ? (i32)(place & 0xffff) : -1;
        region.weights[at] = !is_here ? 0 : a.weights ? a.weights[token * k + column] : 1;
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

// By a warp, of this rank's own region: rows that nobody sends have no source, expert or weight; their bytes may be wanted zero.
DEVICE void write_absent(const DispatchArgs& a, const Region& region, i64 row, bool zero) {
    u32 columns = is_expert_major(a) ? 1 : a.x.top_k, lane = lane_index();
    if (!is_cached(a)) {
        if (lane < 2) region.sources[2 * row + lane] = -1;
        for (u32 i = lane; i < columns; i += WARP) { region.indices[row * columns + i] = -1; region.weights[row * columns + i] = 0; }
    }
    if (!zero) return;
    for (u32 i = lane * 16; i < a.row_bytes; i += WARP * 16) st_16(region.rows + row * a.row_bytes + i, {});
    if (!a.mine.signature.scale_layout) {
        for (u32 i = lane; i < a.scale_bytes; i += WARP) region.scales[row * a.scale_bytes + i] = 0;
        return;
    }
    for (u32 i = lane; i < a.scale_bytes; i += WARP)
        region.scales[i / a.scale_size * region.scale_column + row * a.scale_size + i % a.scale_size] = 0;
}

DEVICE void write_padding(const DispatchArgs& a, const Region& region, u32 writer, u32 writers) {
    u32 locals = locals_of(a, a.x.rank);
    const i32 *counts = tokens_per_expert(a.plan), *offsets = expert_offsets(a.plan, locals);
    for (u32 local = 0; local < locals && is_expert_major(a) && a.mine.signature.alignment > 1; local++)
        for (i64 row = offsets[local] + counts[local] + (i64)writer; row < offsets[local + 1]; row += writers) write_absent(a, region, row, a.zero_padding);
    if (is_cached(a)) return;
    for (i64 row = a.plan->rows[a.x.rank] + writer; row < region.rows_in_all; row += writers) write_absent(a, region, row, false);
}

// What the movers leave to others: all that goes with the rows.
DEVICE void keep_books(const DispatchArgs& a, const Agreed& agreed, Chunk tokens, u32 clerk, u32 clerks) {
    u32 k = a.x.top_k;
    for (u32 token = tokens.begin + clerk; token < tokens.end; token += clerks) {
        if (!is_cached(a)) {
            write_metadata(a, agreed, token);
            if (is_pre_reduced(a)) write_groups(a, agreed, token);
        }
        for (u32 e = 0; e < k && a.scale_bytes > 0; e++) {
            Entry entry = a.sent[(u64)token * k + e];
            if (entry.rank >= 0) write_scales(a, agreed.regions[entry.rank], token, entry.row);
        }
    }
    write_padding(a, agreed.regions[a.x.rank], block_index() * clerks + clerk, block_count() * clerks);
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
    fence_sys();
    sync_block();
    if (thread_index() == 0) st_release_sys(&x.control->told, a.tell);
}

// By the last block: a call that was refused brings nothing, so its plan has no rows anywhere.
DEVICE void refuse(const DispatchArgs& a, const Agreed& agreed) {
    if (!is_cached(a)) {
        for (u32 i = thread_index(); i < a.tokens * a.x.top_k; i += THREADS) a.sent[i] = a.summed[i] = { -1, 0 };
        for (u32 i = thread_index(); i < sizeof(Plan) / 4 + 2 * locals_of(a, a.x.rank) + 1; i += THREADS) ((u32*)a.plan)[i] = 0;
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
    if (thread_index() == 0) judge(a, agreed, epoch);
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
                rank_pass<true>(a, { begin, end }, counts, a.summed);
            }
            fence_proxy_async_shared();
            sync_block();
        }
        if (warp < a.movers) move_rows(a, agreed, tokens, warp, shared_address(shared));
        else keep_books(a, agreed, tokens, warp - a.movers, WARPS - a.movers);
        fence_sys();
    }
    if (!is_last_block(&a.x.state->finished)) return;
    if (refused) refuse(a, agreed);
    else if (!signal_rows(a, epoch) || (is_pre_reduced(a) && !is_cached(a) && !take_groups(a, agreed.regions[a.x.rank], epoch))) return;
    if (thread_index() == 0) st_relaxed_gpu(&a.x.state->epoch, epoch);
}
