// A dispatch of one rank: counts its choices, tells all ranks, agrees with them where each row goes, and writes each row there once.
// Slots are prefixes over ranks and tokens: a pure function of the routing.
#include "dispatch_agree.cuh"
#include "dispatch_count.cuh"
#include "dispatch_write.cuh"

// By the last warp of the first block: the plan, and the counts to whoever reads them on this rank.
DEVICE void publish_counts(const DispatchArgs& a, const Agreed& agreed) {
    const Exchange& x = a.x;
    u32 lane = lane_index(), locals = agreed.locals_of(x.rank), numbers = 2 * locals + 1;
    ROLLED for (u32 i = lane; i < sizeof(Plan) / 8; i += WARP) ((u64*)a.plan)[i] = ((const u64*)&agreed.plan)[i];
    ROLLED for (u32 i = lane; i < locals; i += WARP) a.load[i] += (u64)tokens_per_expert(a.plan)[i];
    if (is_fixed(a)) {
        i32* counts = agreed.regions[x.rank].counts;
        ROLLED for (u32 i = lane; i <= numbers; i += WARP)
            counts[i] = i == 0 ? (i32)agreed.plan.rows[x.rank] : i <= locals || is_expert_major(a) ? tokens_per_expert(a.plan)[i - 1] : 0;
    }
    if (a.tell == 0) return;
    u32 *told = (u32*)a.told_plan, *told_numbers = told + sizeof(Plan) / 4;
    ROLLED for (u32 i = lane; i < sizeof(Plan) / 4; i += WARP) st_relaxed_sys(told + i, ((const u32*)&agreed.plan)[i]);
    ROLLED for (u32 i = lane; i < numbers; i += WARP) st_relaxed_sys(told_numbers + i, (u32)tokens_per_expert(a.plan)[i]);
    sync_warp();
    if (lane == 0) st_release_sys(&x.control->told, a.tell);
}

// By one block: a dispatch that brings nothing. Its plan has no rows anywhere.
DEVICE void bring_nothing(const DispatchArgs& a, const Agreed& agreed, u64 born) {
    if (!is_cached(a)) {
        u32 locals = agreed.locals_of(a.x.rank);
        ROLLED for (u32 i = thread_index(); i < a.tokens * a.x.top_k; i += THREADS) a.sent[i] = a.summed[i] = { -1, 0 };
        ROLLED for (u32 i = thread_index(); i < sizeof(Plan) / 4 + 2 * locals + 1; i += THREADS) ((u32*)a.plan)[i] = i == 0 ? (u32)born : i == 1 ? (u32)(born >> 32) : 0;
        if (is_fixed(a) && a.mine.needed == 0) {
            i64 bytes;
            Region region = region_at(a, agreed, a.x.rank, a.mine.region_offset, bytes);
            write_absent(a, region, 0, region.rows_in_all, thread_index(), THREADS);
            fill_words(region.counts, 0, 2 + 2 * locals, 0, thread_index(), THREADS);
        }
    }
    if (thread_index() == 0 && a.tell != 0) st_release_sys(&a.x.control->told, a.tell);
}

// The last block to have written: tells each rank that it has all rows of this one, and awaits those of the others.
DEVICE bool signal_rows(const DispatchArgs& a, const Plan& plan, u64 epoch) {
    u32 peer = thread_index();
    bool failed = false;
    if (peer < a.x.ranks) {
        i32 sent = plan.sent_to[peer], expected = plan.received_from[peer];
        if (sent > 0) st_release_sys(arrival_at(a.x, peer, a.x.rank), epoch_word(epoch, (u32)sent));
        u64 word;
        failed = expected > 0 && !await(a.x, arrival_at(a.x, a.x.rank, peer), epoch, peer, a.mine.signature.operation, AWAIT_ROWS, epoch, &word);
        if (!failed && expected > 0 && (epochs_past(word, epoch) != 0 || count_of(word) != (u32)expected)) {
            raise(a.x, a.mine.signature.operation, AWAIT_ROWS, epoch, peer, expected, count_of(word));
            failed = true;
        }
    }
    return !any_of_block(failed);
}

// Takes the groups that the senders wrote out of memory that they can write, checked. They are in order of their tokens' ranks.
DEVICE bool take_groups(const DispatchArgs& a, const Agreed& agreed, u64 epoch) {
    bool bad = false;
    const Region& region = agreed.regions[a.x.rank];
    const Plan& plan = agreed.plan;
    i64 groups = plan.tokens[a.x.rank], rows = plan.rows[a.x.rank];
    for (i64 group = thread_index(); group < groups; group += THREADS) {
        const i32* said = region.groups + group * a.x.top_k;
        i32 row = 0, wrong = -1;
        for (u32 first = 0; first < a.x.top_k; first += FIRST_CHOICES) {
            i32 next[FIRST_CHOICES]; // loads that do not wait for each other
#pragma unroll
            for (u32 i = 0; i < FIRST_CHOICES; i++) next[i] = first + i < a.x.top_k ? ld_others(said + first + i) : -1;
#pragma unroll
            for (u32 i = 0; i < FIRST_CHOICES; i++) {
                if (row != -1) row = next[i];
                if (row < -1 || row >= rows) wrong = row;
                if (first + i < a.x.top_k) a.groups[group * a.x.top_k + first + i] = row;
            }
        }
        if (wrong == -1) continue;
        i64 left = group;
        u32 source = 0;
        while (source + 1 < a.x.ranks && left >= plan.tokens_from[source]) left -= plan.tokens_from[source++];
        raise(a.x, DISPATCH, AWAIT_ROWS, epoch, source, rows, wrong);
        bad = true;
    }
    return !any_of_block(bad);
}

// From each rank's counts: the totals, and where this block's rows begin.
DEVICE bool plan_rows(const DispatchArgs& a, const Scratch& s, Agreed& agreed, u64 epoch) {
    if (!take_counts(a, s, agreed, epoch)) return false;
    if (!is_expert_major(a)) {
        // Where rows are not grouped by expert, one needs to know where they would begin.
        if (block_index() == 0 && warp_index() == WARPS - 1) place_experts(a, s, agreed, a.x.rank);
        return true;
    }
    ROLLED for (u32 rank = warp_index(); rank < a.x.ranks; rank += WARPS) {
        place_experts(a, s, agreed, rank);
        count_choices_between(a, s, agreed, rank, epoch);
    }
    sync_block();
    return true;
}

// Writes down where each of this block's rows goes.
DEVICE void place_rows(const DispatchArgs& a, const Scratch& s, const Agreed& agreed, Chunk tokens, u64 ranks_of_first) {
    Chunk share = share_of(tokens, warp_index());
    if (is_expert_major(a)) expert_pass<true>(a, s, share);
    if (by_rank(a)) place_by_rank(a, s, agreed.base, share, ranks_of_first);
}

KERNEL(THREADS) dispatch(const DispatchArgs a) {
    DYNAMIC_SHARED(shared);
    SHARED static Agreed agreed;
    SHARED static Announcement mine;
    SHARED static Call call;
    griddepcontrol_wait();
    mark(a, BEGUN);
    Chunk tokens = chunk_of(a, block_index());
    Scratch scratch = scratch_in(shared, a.x);
    u32 warp = warp_index();
    if (thread_index() == 0) call = this_call(a.x, a.acknowledged);
    if (thread_index() == WARP) {
        keep(mine, a.mine);
        if (is_cached(a)) name_plan(mine, a.plan);
    }
    ROLLED for (u32 rank = thread_index(); rank <= a.x.ranks; rank += THREADS) agreed.first_expert[rank] = a.first_expert[rank];

    u64 ranks_of_first = 0;
    if (!is_cached(a)) ranks_of_first = count_choices(a, scratch, tokens);
    else ROLLED for (u32 i = thread_index(); i < sizeof(Plan) / 8; i += THREADS) ((u64*)&agreed.plan)[i] = ((const u64*)a.plan)[i];
    sync_block();
    if (call.is_over) return;
    u64 epoch = call.epoch;
    if (call.is_void) {
        if (block_index() != 0) return;
        bool fails = warp == 0 && !await_readers(a.x, a.mine.signature.operation, epoch);
        if (!any_of_block(fails)) bring_nothing(a, agreed, 0);
        return;
    }
    if (is_last_block<TO_OWN_BLOCKS>(&a.x.state->begun) && !announce_counts(a, mine, epoch)) return;
    mark(a, COUNTED);
    if (!hear(a.x, mine.signature, epoch, agreed.heard)) return;
    mark(a, HEARD);
    if (!is_cached(a) && !plan_rows(a, scratch, agreed, epoch)) return;
    if (!agree(a, agreed, epoch)) return;
    mark(a, AGREED);
    bool refused = agreed.verdict.refused != GRANTED, failed = false;
    if (!refused) {
        if (!is_cached(a)) {
            place_rows(a, scratch, agreed, tokens, ranks_of_first);
            fence_proxy_async_shared();
        }
        sync_block();
        if (thread_index() == 0) add_release_gpu(&a.x.state->placed, 1);
        mark(a, PLACED);
        if (warp < a.movers) {
            if (a.given_element == NOT_QUANTIZED) failed = !move_rows(a, agreed, warp, shared_address(shared));
            else failed = !quantize_rows(a, agreed, warp, shared_address(shared));
        } else {
            if (!is_cached(a) && block_index() == 0 && warp == WARPS - 1) publish_counts(a, agreed);
            keep_books(a, agreed, tokens, warp - a.movers, WARPS - a.movers);
        }
    }
    mark(a, MOVED);
    mark(a, KEPT, THREADS - WARP);
    if (any_of_block(failed) || !is_last_block<TO_OTHER_RANKS>(&a.x.state->finished)) return;
    if (thread_index() == 0) {
        st_relaxed_gpu(&a.x.state->placed, 0u);
        st_relaxed_gpu(&a.x.state->taken, 0u);
    }
    if (refused) {
        if (thread_index() == 0) tell_refusal(a.x, a.mine, agreed.verdict, epoch);
        bring_nothing(a, agreed, is_in_graph(a.mine) ? epoch : 0);
    } else if (!signal_rows(a, agreed.plan, epoch) || (is_pre_reduced(a) && !is_cached(a) && !take_groups(a, agreed, epoch))) {
        return;
    }
    mark(a, SIGNALLED);
    if (thread_index() == 0) st_relaxed_gpu(&a.x.state->epoch, epoch);
}
