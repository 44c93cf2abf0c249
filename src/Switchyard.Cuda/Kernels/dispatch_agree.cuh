// The second part of a dispatch: from what all ranks told, where each row goes; the same verdict on all.
#pragma once
#include "dispatch_count.cuh"

// What all ranks counted of one rank or expert: their sum, that of the lower ranks; and how many were this rank's own. Sets bad to a rank whose count cannot be.
struct Column { u32 all, lower, own; };
DEVICE Column sum_of_ranks(const Exchange& x, u32 offset, u64 epoch, u32& bad) {
    constexpr u32 RANKS_AT_ONCE = 8;
    const u8* count = (const u8*)entry_at(x, x.rank, 0, epoch) + offset;
    Column sum = {};
    ROLLED for (u32 first = 0; first < x.ranks; first += RANKS_AT_ONCE) {
        i32 some[RANKS_AT_ONCE];
#pragma unroll
        for (u32 i = 0; i < RANKS_AT_ONCE; i++) {
            some[i] = first + i < x.ranks ? ld_others((const i32*)count) : 0;
            count += RING_DEPTH * x.entry_bytes;
        }
#pragma unroll
        for (u32 i = 0; i < RANKS_AT_ONCE; i++) {
            u32 from = first + i, number = (u32)some[i];
            if (number > MAX_TOKENS) bad = from;
            if (from < x.rank) sum.lower += number;
            if (from == x.rank) sum.own = number;
            sum.all += number;
        }
    }
    return sum;
}

// Sums every rank's counts, and forms where this block's rows begin; false where a rank's counts cannot be.
DEVICE bool take_counts(const DispatchArgs& a, const Scratch& s, Agreed& agreed, u64 epoch) {
    const Exchange& x = a.x;
    Plan& plan = agreed.plan;
    bool is_grouped = is_expert_major(a);
    u32 bad = x.ranks;
    if (thread_index() == 0) plan.born = epoch;
    ROLLED for (u32 column = thread_index(); column < x.ranks + x.experts; column += THREADS) {
        bool is_rank = column < x.ranks;
        u32 expert = column - x.ranks;
        // Where rows are not grouped by expert, only who holds one wants to know its load, and a block of it is enough.
        if (!is_rank && !is_grouped && (block_index() != 0 || s.places[expert] >> 16 != x.rank)) continue;
        i32 before = (is_rank ? by_rank(a) : is_grouped) ? sum_of_blocks(a, block_index(), column) : 0;
        Column sum = sum_of_ranks(x, is_rank ? x.rank_counts_at + column * 4 : x.expert_counts_at + expert * 4, epoch, bad);
        if (is_rank) {
            plan.rows[column] = plan.tokens[column] = sum.all;
            plan.sent_to[column] = (i32)sum.own;
            agreed.base[column] = (i32)sum.lower + before;
        } else {
            s.all[expert] = (i32)sum.all;
            s.bases[expert] = (i32)sum.lower + before;
        }
    }
    ROLLED for (u32 from = thread_index() - (THREADS - MAX_RANKS); from < x.ranks; from += MAX_RANKS) {
        i32 tokens = ld_others(rank_counts(x, entry_at(x, x.rank, from, epoch)) + x.rank);
        if ((u32)tokens > MAX_TOKENS) bad = from;
        plan.received_from[from] = plan.tokens_from[from] = tokens;
    }
    if (bad < x.ranks) raise(x, DISPATCH, AWAIT_ANNOUNCEMENT, epoch, bad, MAX_TOKENS, -1);
    return !any_of_block(bad < x.ranks);
}

// By a warp: where a rank's experts begin, and so how many rows it receives.
DEVICE void place_experts(const DispatchArgs& a, const Scratch& s, Agreed& agreed, u32 rank) {
    const Exchange& x = a.x;
    u32 lane = lane_index(), locals = agreed.locals_of(rank), first = (u32)agreed.first_expert[rank], start = 0;
    u32 alignment = (u32)a.mine.signature.alignment;
    ROLLED for (u32 local = lane; local - lane < locals; local += WARP) {
        u32 expert = local < locals ? s.experts_of[first + local] : 0;
        u32 choices = local < locals ? (u32)s.all[expert] : 0, aligned = (choices + alignment - 1) / alignment * alignment, sum = aligned;
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
    if (lane == 0 && is_expert_major(a)) agreed.plan.rows[rank] = start;
}

// By a warp, where rows are grouped by expert: how many this rank sends to another, and how many come from there.
DEVICE void count_choices_between(const DispatchArgs& a, const Scratch& s, Agreed& agreed, u32 rank, u64 epoch) {
    const Exchange& x = a.x;
    const i32 *own = expert_counts(x, entry_at(x, x.rank, x.rank, epoch)), *theirs = expert_counts(x, entry_at(x, x.rank, rank, epoch));
    u32 sent = 0, received = 0;
    ROLLED for (u32 local = lane_index(); local < agreed.locals_of(rank); local += WARP) sent += (u32)ld_others(own + s.experts_of[(u32)agreed.first_expert[rank] + local]);
    ROLLED for (u32 local = lane_index(); local < agreed.locals_of(x.rank); local += WARP) received += (u32)ld_others(theirs + s.experts_of[(u32)agreed.first_expert[x.rank] + local]);
    for (u32 mask = WARP / 2; mask > 0; mask /= 2) {
        sent += from_partner_lane(sent, mask);
        received += from_partner_lane(received, mask);
    }
    if (lane_index() != 0) return;
    agreed.plan.sent_to[rank] = (i32)sent;
    agreed.plan.received_from[rank] = (i32)received;
}

// The same verdict on all ranks, before a row moves; by a warp.
DEVICE Verdict judge(const DispatchArgs& a, const Agreed& agreed) {
    Verdict verdict = someone_cannot(a.x, agreed.heard);
    if (verdict.refused != GRANTED) return verdict;
    u32 rank = first_rank(a.x, [&](u32 each) INLINED { return agreed.plan.rows[each] > agreed.heard[each].region_rows; });
    if (rank == a.x.ranks) return verdict;
    return { NO_ROWS, rank, agreed.plan.rows[rank], agreed.heard[rank].region_rows };
}

// As Arena/RegionLayout.cs lays a region out; conformance holds the two together.
DEVICE Region region_at(const DispatchArgs& a, const Agreed& agreed, u32 rank, i64 offset, i64& bytes) {
    i64 rows = result_rows(a, agreed, rank), columns = is_expert_major(a) ? 1 : a.x.top_k;
    i64 scale_column = a.scale_bytes == 0 ? 0 : up(rows, 16 / a.scale_size) * a.scale_size;
    i64 scales = up(rows * a.row_bytes, LINE);
    i64 sources = up(scales + (a.mine.signature.scale_layout ? a.scale_bytes / (a.scale_size ? a.scale_size : 1) * scale_column : rows * a.scale_bytes), LINE);
    i64 indices = up(sources + rows * 8, LINE), weights = up(indices + rows * columns * 4, LINE), counts = up(weights + rows * columns * 4, LINE);
    i64 groups = up(counts + (is_fixed(a) ? 8 + 8ll * agreed.locals_of(rank) : 0), LINE);
    bytes = up(groups + (is_pre_reduced(a) ? agreed.plan.tokens[rank] * a.x.top_k * 4 : 0), LINE);
    u8* region = a.x.arenas[rank] + offset;
    return { region, region + scales, scale_column, (i32*)(region + sources), (i32*)(region + indices), (float*)(region + weights), (i32*)(region + counts), (i32*)(region + groups), rows };
}

// By a warp: where the ranks' regions lie; false where one is not in its owner's pool.
DEVICE bool locate(const DispatchArgs& a, Agreed& agreed, u64 epoch) {
    bool bad = false;
    ROLLED for (u32 rank = lane_index(); rank < a.x.ranks; rank += WARP) {
        i64 bytes, offset = agreed.heard[rank].region_offset;
        agreed.regions[rank] = region_at(a, agreed, rank, offset, bytes);
        if (is_in_pool(a.x, offset, bytes)) continue;
        raise(a.x, a.mine.signature.operation, AWAIT_ANNOUNCEMENT, epoch, rank, a.x.total_bytes - bytes, offset);
        bad = true;
    }
    return !bad;
}

// The verdict, and where rows go if it is favourable; false where they cannot.
DEVICE bool agree(const DispatchArgs& a, Agreed& agreed, u64 epoch) {
    bool failed = false;
    if (warp_index() == 0) {
        Verdict verdict = judge(a, agreed);
        if (lane_index() == 0) agreed.verdict = verdict;
        failed = verdict.refused == GRANTED && !locate(a, agreed, epoch);
    }
    return !any_of_block(failed);
}
