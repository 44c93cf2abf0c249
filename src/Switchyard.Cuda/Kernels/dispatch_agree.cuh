// The second part of a dispatch: from what all ranks told, where each row goes; the same verdict on all.
#pragma once
#include "dispatch_count.cuh"

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
            sent += from_partner_lane(sent, mask);
            received += from_partner_lane(received, mask);
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
