// The first part of a dispatch: each block counts its choices, the last one tells all ranks.
#pragma once
#include "dispatch_args.cuh"

constexpr u32 FIRST_CHOICES = 8; // of a token, that are held in registers

// Shared memory while rows are counted and placed, before it becomes the movers' rings.
struct Scratch {
    u32* of_ranks;   // by warp, then rank: its tokens that have rows there; then where they begin
    i32* all;        // by expert: choices; then those of all ranks
    i32* bases;      // by expert: where this block's rows begin
    u32* places;     // by expert, as the caller gives them; read while nothing else can be done
    u32* experts_of; // by rank, then local index, likewise
    u16* of_experts; // by warp, then expert: its choices; then those of lower warps
};
DEVICE Scratch scratch_in(u8* shared, const Exchange& x) {
    Scratch s;
    s.of_ranks = (u32*)shared;
    s.all = (i32*)(s.of_ranks + WARPS * MAX_RANKS);
    s.bases = s.all + x.experts;
    s.places = (u32*)(s.bases + x.experts);
    s.experts_of = s.places + x.experts;
    s.of_experts = (u16*)(s.experts_of + x.experts);
    return s;
}

// The choices of a lane's tokens, one token after the other: the first ones in registers, read together and ahead.
struct Choices {
    const DispatchArgs& a;
    u32 end; // of the tokens
    u32 begin;
    i32 first[FIRST_CHOICES], ahead[FIRST_CHOICES];

    DEVICE Choices(const DispatchArgs& args, u32 token, u32 end_of_tokens) : a(args), end(end_of_tokens) { fetch(token); }
    DEVICE void fetch(u32 token) {
#pragma unroll
        for (u32 i = 0; i < FIRST_CHOICES; i++) ahead[i] = token < end && i < a.x.top_k ? choice_at(a, token * a.x.top_k + i) : -1;
    }
    // Goes on to the token that was fetched. Returns the first choice of it that is no expert, or one twice; top-k where there is none.
    DEVICE u32 read(u32 token) {
        begin = token * a.x.top_k;
        bool is_one = token < end;
        u32 wrong = a.x.top_k;
#pragma unroll
        for (u32 i = 0; i < FIRST_CHOICES; i++) first[i] = ahead[i];
        fetch(token + WARP);
#pragma unroll
        for (u32 i = FIRST_CHOICES; i-- > 0;) {
            bool bad = first[i] == NO_SUCH_EXPERT;
            for (u32 earlier = 0; earlier < i; earlier++) bad |= first[i] == first[earlier] && first[i] >= 0;
            if (bad) wrong = i;
        }
        ROLLED for (u32 i = FIRST_CHOICES; i < a.x.top_k && is_one && i < wrong; i++) {
            i32 expert = choice_at(a, begin + i);
            bool bad = expert == NO_SUCH_EXPERT;
#pragma unroll
            for (u32 earlier = 0; earlier < FIRST_CHOICES; earlier++) bad |= expert >= 0 && first[earlier] == expert;
            ROLLED for (u32 earlier = FIRST_CHOICES; earlier < i && expert >= 0; earlier++) bad |= choice_at(a, begin + earlier) == expert;
            if (bad) wrong = i;
        }
        return wrong;
    }
};

// The ranks that a token has rows on, a bit each; counts its choices, where they are told apart by nothing else.
DEVICE u64 ranks_of(const DispatchArgs& a, const Scratch& s, const Choices& choices) {
    u64 ranks = 0;
    auto count = [&](i32 expert) INLINED {
        if (expert < 0) return;
        ranks |= 1ull << (s.places[expert] >> 16);
        if (!is_expert_major(a)) add_shared(shared_address(s.all + expert), 1);
    };
#pragma unroll
    for (u32 i = 0; i < FIRST_CHOICES; i++) count(choices.first[i]);
    ROLLED for (u32 i = FIRST_CHOICES; i < a.x.top_k; i++) count(choice_at(a, choices.begin + i));
    return ranks;
}

// Where a token's ranks are kept until its entries are written there.
DEVICE u64* ranks_at(const DispatchArgs& a, u32 token) { return (u64*)(a.summed + (u64)token * a.x.top_k); }

// By a warp, a number for each rank: lane r has those of ranks r and r + 32.
struct OfRanks {
    u32 low, high;
    DEVICE u32 of(u32 rank) const { u32 a = from_lane(low, rank % WARP), b = from_lane(high, rank % WARP); return rank < WARP ? a : b; }
};

// By a warp, a token a lane: which lanes' tokens have rows on each rank.
DEVICE OfRanks lanes_of(const Exchange& x, u64 ranks) {
    OfRanks lanes = {};
    ROLLED for (u32 rank = 0; rank < x.ranks; rank++) {
        u32 there = ballot((ranks >> rank & 1) != 0);
        if (lane_index() == rank) lanes.low = there;
        if (lane_index() + WARP == rank) lanes.high = there;
    }
    return lanes;
}

// Counts a warp's tokens by the ranks that they have rows on. Returns the ranks of the first ones; those of the others are kept.
DEVICE u64 count_ranks(const DispatchArgs& a, const Scratch& s, Choices& choices, Chunk tokens, u32& wrong) {
    u64 of_first = 0;
    u32 low = 0, high = 0;
    ROLLED for (u32 first = tokens.begin; first < tokens.end; first += WARP) {
        u32 token = first + lane_index(), bad = choices.read(token);
        if (bad < a.x.top_k && choices.begin + bad < wrong) wrong = choices.begin + bad;
        u64 ranks = token < tokens.end ? ranks_of(a, s, choices) : 0;
        OfRanks lanes = lanes_of(a.x, ranks);
        low += (u32)__builtin_popcount(lanes.low);
        high += (u32)__builtin_popcount(lanes.high);
        if (first == tokens.begin) of_first = ranks;
        else if (token < tokens.end) *ranks_at(a, token) = ranks;
    }
    u32* mine = s.of_ranks + warp_index() * MAX_RANKS;
    mine[lane_index()] = low;
    mine[lane_index() + WARP] = high;
    return of_first;
}

// Writes the entries of a warp's tokens, in order of ranks: their ordinals among the rows to each. A lane for each rank of a token, several tokens
// at a time, or several rounds; the places behind its ranks hold none.
DEVICE void place_by_rank(const DispatchArgs& a, const Scratch& s, const i32* base, Chunk tokens, u64 of_first) {
    u32 lane = lane_index(), k = a.x.top_k, lanes = a.lanes_a_token, place = lane % lanes, leader = lane - place, lower = (1u << place) - 1;
    const u32* begun = s.of_ranks + warp_index() * MAX_RANKS;
    OfRanks before = { lane < a.x.ranks ? begun[lane] + base[lane] : 0, lane + WARP < a.x.ranks ? begun[lane + WARP] + base[lane + WARP] : 0 };
    u64 ranks = of_first;
    ROLLED for (u32 first = tokens.begin; first < tokens.end; first += WARP) {
        u32 count = tokens.end - first < WARP ? tokens.end - first : WARP;
        u64 next = first + WARP + lane < tokens.end ? *ranks_at(a, first + WARP + lane) : 0;
        OfRanks there = lanes_of(a.x, ranks);
        ROLLED for (u32 round = 0; round < k || round < a.x.ranks; round += lanes) {
            u32 rank = round + place, row = before.of(rank % MAX_RANKS), tokens_there = there.of(rank % MAX_RANKS);
            ROLLED for (u32 some = 0; some < count; some += WARP / lanes) {
                u32 token = some + lane / lanes;
                bool has = rank < a.x.ranks && (tokens_there >> token & 1) != 0;
                u32 here = ballot(has) >> leader & ALL_LANES >> (WARP - lanes);
                u32 all = (u32)__builtin_popcount(here), ordinal = (u32)__builtin_popcount(here & lower);
                if (lanes < a.x.ranks) { // these are not all of its ranks
                    u64 of_token = from_lane(ranks, token);
                    all = (u32)__builtin_popcountll(of_token);
                    ordinal += (u32)__builtin_popcountll(of_token & ((1ull << round) - 1));
                }
                u32 at = has ? ordinal : all + rank - ordinal;
                Entry entry = { -1, 0 };
                if (has) entry = { (i32)rank, (i32)(row + (u32)__builtin_popcount(tokens_there & ((1u << token) - 1))) };
                if (token < count && at < k) a.summed[(u64)(first + token) * k + at] = entry;
            }
        }
        before.low += (u32)__builtin_popcount(there.low);
        before.high += (u32)__builtin_popcount(there.high);
        ranks = next;
    }
}

// Ordinals among the choices of each expert, in order of tokens: a warp's choices by lanes in a row. With Places, writes entries.
template <bool Places> DEVICE void expert_pass(const DispatchArgs& a, const Scratch& s, Chunk tokens) {
    u16* counts = s.of_experts + warp_index() * a.x.experts;
    u32 lane = lane_index(), lower = lower_lanes(), end = tokens.end * a.x.top_k, index = tokens.begin * a.x.top_k + lane;
    i32 next = index < end ? choice_at(a, index) : -1;
    ROLLED for (; index - lane < end; index += WARP) {
        i32 expert = next;
        next = index + WARP < end ? choice_at(a, index + WARP) : -1;
        bool chosen = expert >= 0;
        u32 same = match_any(chosen ? (u32)expert : 0x80000000 | lane);
        u32 begun = chosen ? counts[expert] : 0;
        sync_warp();
        if (chosen && (same & lower) == 0) counts[expert] = (u16)(begun + (u32)__builtin_popcount(same));
        sync_warp();
        if (!Places || index >= end) continue;
        Entry entry = { -1, 0 };
        if (chosen) entry = { (i32)(s.places[expert] >> 16), s.bases[expert] + (i32)(begun + (u32)__builtin_popcount(same & lower)) };
        a.sent[index] = entry;
    }
}

DEVICE i32* counts_of_block(const DispatchArgs& a, u32 block) { return a.block_counts + (u64)block * (a.x.ranks + a.x.experts + 1); }

// Counts this block's choices by warp, and leaves the block's sums where the other blocks find them. Returns the ranks of the warp's first tokens.
DEVICE u64 count_choices(const DispatchArgs& a, const Scratch& s, Chunk tokens) {
    SHARED static u32 wrong;
    u32 lane = lane_index(), warp = warp_index(), ranks = a.x.ranks, experts = a.x.experts;
    Chunk share = share_of(tokens, warp);
    Choices choices(a, share.begin + lane, share.end);
    ROLLED for (u32 i = thread_index(); i < experts; i += THREADS) {
        s.all[i] = 0;
        s.places[i] = a.places[i];
        s.experts_of[i] = (u32)a.experts_of[i];
    }
    if (is_expert_major(a)) ROLLED for (u32 i = thread_index(); i < WARPS * experts; i += THREADS) s.of_experts[i] = 0;
    if (thread_index() == 0) wrong = NOTHING_WRONG;
    sync_block();

    u32 bad = NOTHING_WRONG;
    u64 of_first = count_ranks(a, s, choices, share, bad);
    if (bad != NOTHING_WRONG) min_shared(shared_address(&wrong), bad);
    if (is_expert_major(a)) expert_pass<false>(a, s, share);
    sync_block();

    // Counts of warps become where each begins within the block.
    i32* sums = counts_of_block(a, block_index());
    ROLLED for (u32 rank = warp; rank < ranks; rank += WARPS) {
        u32 count = lane < WARPS ? s.of_ranks[lane * MAX_RANKS + rank] : 0, sum = count;
        for (u32 distance = 1; distance < WARPS; distance *= 2) {
            u32 below = from_lower_lane(sum, distance);
            if (lane >= distance) sum += below;
        }
        if (lane < WARPS) s.of_ranks[lane * MAX_RANKS + rank] = sum - count;
        if (lane == WARPS - 1) sums[rank] = (i32)sum;
    }
    ROLLED for (u32 expert = thread_index(); expert < experts; expert += THREADS) {
        u32 sum = (u32)s.all[expert];
        if (is_expert_major(a)) {
            u32 counts[WARPS];
            for (u32 w = 0; w < WARPS; w++) counts[w] = s.of_experts[w * experts + expert];
            sum = 0;
            for (u32 w = 0; w < WARPS; w++) { s.of_experts[w * experts + expert] = (u16)sum; sum += counts[w]; }
        }
        sums[ranks + expert] = (i32)sum;
    }
    if (thread_index() == 0) sums[ranks + experts] = (i32)wrong;
    return of_first;
}

// What lower blocks have counted of a rank or an expert; loads that do not wait for each other.
DEVICE_RARELY i32 sum_of_blocks(const i32* counts, u32 stride, u32 end) {
    constexpr u32 BLOCKS_AT_ONCE = 16;
    i32 sum = 0;
    ROLLED for (u32 block = 0; block < end; block += BLOCKS_AT_ONCE) {
        i32 some[BLOCKS_AT_ONCE];
#pragma unroll
        for (u32 i = 0; i < BLOCKS_AT_ONCE; i++) {
            some[i] = block + i < end ? ld_others(counts) : 0;
            counts += stride;
        }
#pragma unroll
        for (u32 i = 0; i < BLOCKS_AT_ONCE; i++) sum += some[i];
    }
    return sum;
}
DEVICE i32 sum_of_blocks(const DispatchArgs& a, u32 end, u32 column) { return sum_of_blocks(a.block_counts + column, a.x.ranks + a.x.experts + 1, end); }

// By a warp: the message; where a choice is wrong it says so.
DEVICE void announce_call(const DispatchArgs& a, Announcement& mine, u64 epoch) {
    u32 wrong = NOTHING_WRONG;
    ROLLED for (u32 block = lane_index(); block < block_count() && !is_cached(a); block += WARP) {
        u32 first = (u32)ld_others(counts_of_block(a, block) + a.x.ranks + a.x.experts);
        if (first < wrong) wrong = first;
    }
    for (u32 mask = WARP / 2; mask > 0; mask /= 2) {
        u32 other = from_partner_lane(wrong, mask);
        if (other < wrong) wrong = other;
    }
    if (wrong != NOTHING_WRONG && lane_index() == 0) {
        mine.needed = -1 - (i64)(wrong / a.x.top_k);
        mine.available = choice_as_given(a, wrong);
    }
    sync_warp();
    write_announcement(a.x, mine, epoch);
}

// The last block to have counted tells all ranks.
DEVICE bool announce_counts(const DispatchArgs& a, Announcement& mine, u64 epoch) {
    const Exchange& x = a.x;
    u32 warp = warp_index();
    bool failed = false;
    if (warp == WARPS - 1) announce_call(a, mine, epoch);
    else if (warp == WARPS - 2) failed = a.awaits_readers && !await_readers(x, mine.signature.operation, epoch);
    else if (!is_cached(a)) {
        ROLLED for (u32 column = thread_index(); column < x.ranks + x.experts; column += (WARPS - 2) * WARP) {
            i32 sum = sum_of_blocks(a, block_count(), column);
            ROLLED for (u32 peer = 0; peer < x.ranks; peer++) {
                Announcement* entry = entry_at(x, peer, x.rank, epoch);
                (column < x.ranks ? rank_counts(x, entry) : expert_counts(x, entry) - x.ranks)[column] = sum;
            }
        }
    }
    if (any_of_block(failed)) return false;
    flag_announcement(x, thread_index(), THREADS, epoch);
    return true;
}
