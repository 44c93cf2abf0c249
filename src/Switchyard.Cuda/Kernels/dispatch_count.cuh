// The first part of a dispatch: each block counts its choices, the last one tells all ranks.
#pragma once
#include "dispatch_args.cuh"

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
