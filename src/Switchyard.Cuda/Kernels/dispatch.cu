// A dispatch of one rank: counts its choices, tells all ranks, agrees with them where each row goes, and writes each row there once.
// Slots are prefixes over ranks and tokens: a pure function of the routing.
#include "dispatch_agree.cuh"
#include "dispatch_count.cuh"
#include "dispatch_write.cuh"

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
