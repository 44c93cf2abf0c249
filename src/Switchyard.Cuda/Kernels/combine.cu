// A combine of one rank: tells all where its results lie, and when all have told theirs reads each contribution to its tokens once, where it
// lies, and adds: in single precision, in a fixed order, rounded once. Pre-reduced results are summed by the same loop before.
#include "elements.cuh"
#include "exchange.cuh"

constexpr u32 MAX_WARPS = 12;
constexpr u32 THREADS = MAX_WARPS * WARP;
constexpr u32 STAGES = 2;
constexpr u32 STAGE_BYTES = 8192; // chunks of as many contributions
constexpr u32 FEW = 4, MANY = 8;  // contributions in a stage
constexpr u32 RING_OFFSET = 256;  // the mbarriers come first: 8 bytes a stage and warp

struct CombineArgs {
    Exchange x;
    Announcement mine;
    u8* output;
    i64 output_stride;
    const u8* biases[2];         // or null
    i64 bias_strides[2];
    const float* choice_weights; // tokens x top-k, or null
    float* reduced_weights;      // tokens x top-k, or null
    const Plan* plan;
    const Entry* sent;
    const Entry* summed;
    u64 acknowledged;            // as of a dispatch
    u32 tokens;
    u32 row_bytes;
};

struct SumArgs {
    Exchange x;
    const u8* results;
    i64 result_stride;
    u8* sums;        // a row a group, without gaps
    const i32* groups; // a group's rows, top-k, ended by -1
    const Plan* plan;
    u32 row_bytes;
    u32 unused;
};

// ---- what is summed

// A contribution: its row, or null where the place is empty, and what it is multiplied by.
struct Term { const u8* row; float weight; };

// Sums of tokens: their results at all ranks, then the biases.
struct Tokens {
    const CombineArgs& a;
    const u8* const* results; // by rank
    u32 most;                 // rows of a token

    DEVICE Tokens(const CombineArgs& args, const u8* const* all) : a(args), results(all), most(args.x.top_k) {
        bool by_rank = a.mine.signature.layout != EXPERT_MAJOR || (a.mine.signature.traits & PRE_REDUCE) != 0;
        if (by_rank && a.x.ranks < most) most = a.x.ranks;
    }
    DEVICE u32 count() const { return a.tokens; }
    DEVICE u32 places() const { return most + (a.biases[0] ? 1 : 0) + (a.biases[1] ? 1 : 0); }
    DEVICE bool multiplies() const { return a.choice_weights != nullptr; }
    DEVICE u8* output(u32 token) const { return a.output + token * a.output_stride; }
    DEVICE Term term(u32 token, u32 place) const {
        if (place >= most) {
            u32 bias = place - most + (a.biases[0] ? 0 : 1);
            return bias < 2 && place < places() ? Term { a.biases[bias] + token * a.bias_strides[bias], 1 } : Term { nullptr, 0 };
        }
        Entry entry = a.summed[(u64)token * a.x.top_k + place];
        if (entry.rank < 0) return { nullptr, 0 };
        return { results[entry.rank] + (i64)entry.row * a.row_bytes, a.choice_weights ? a.choice_weights[(u64)token * a.x.top_k + place] : 1 };
    }
};

// Sums of the rows of a group, on their own rank. Other ranks wrote which rows those are: none beyond what came is read.
struct Groups {
    const SumArgs& a;
    DEVICE u32 count() const { return (u32)a.plan->tokens[a.x.rank]; }
    DEVICE u32 places() const { return a.x.top_k; }
    DEVICE bool multiplies() const { return false; }
    DEVICE u8* output(u32 group) const { return a.sums + (i64)group * a.row_bytes; }
    DEVICE Term term(u32 group, u32 place) const {
        if (place >= a.x.top_k) return { nullptr, 0 };
        const i32* rows = a.groups + (i64)group * a.x.top_k;
        for (u32 i = 0; i < place; i++) if (rows[i] < 0) return { nullptr, 0 };
        i32 row = rows[place];
        return row >= 0 && row < a.plan->rows[a.x.rank] ? Term { a.results + row * a.result_stride, 1 } : Term { nullptr, 0 };
    }
};

// ---- the loop

// How the sums of a rank are shared out among its warps: rows whole, or in so many stretches of chunks that every warp has enough of them.
struct Stretches {
    u32 chunks, parts, length, all, warps;
    bool are_taken; // by warps as they come to them; otherwise they go around
    DEVICE Stretches(u32 count, u32 row_bytes, u32 chunk_bytes) {
        constexpr u32 ENOUGH = 24;        // a warp: one more or less then matters little
        constexpr u32 LONG = 4, SOME = 8; // chunks beside which it costs little to ask for the next stretch, where each warp has some so long
        chunks = (row_bytes + chunk_bytes - 1) / chunk_bytes;
        warps = MAX_WARPS * block_count();
        u32 wanted = count < warps * ENOUGH && count > 0 ? (warps * ENOUGH + count - 1) / count : 1;
        length = wanted < chunks ? (chunks + wanted - 1) / wanted : 1;
        if (length < LONG && count * chunks >= warps * LONG * SOME) length = LONG;
        parts = (chunks + length - 1) / length;
        all = count * parts;
        are_taken = length >= LONG;
    }
};

// What a warp loads next: a chunk of a sum's row, as many contributions as a stage holds at a time. Which long stretch, is settled as it is taken,
// so that no warp ends long before another.
struct Item {
    u32 stretch, sum, chunk, end, group;
    u32 taken; // lane 0: the stretch behind this one
    DEVICE Item(const Stretches& s, u32* counter) : group(0) { begin(s, counter, warp_index() * block_count() + block_index()); }
    DEVICE void begin(const Stretches& s, u32* counter, u32 at) {
        stretch = at;
        sum = at / s.parts;
        chunk = (at - sum * s.parts) * s.length;
        end = chunk + s.length < s.chunks ? chunk + s.length : s.chunks;
        if (s.are_taken && at < s.all && lane_index() == 0) taken = s.warps + add_relaxed_gpu(counter, 1);
    }
    DEVICE void next(const Stretches& s, u32* counter, u32 groups) {
        if (++group < groups) return;
        group = 0;
        if (++chunk == end) begin(s, counter, s.are_taken ? from_lane(taken, 0) : stretch + s.warps);
    }
};

// What a stage holds once it is there: contributions by source, and what becomes of their sum.
struct Load {
    u32 bytes; // of each; 0: there is nothing left to load
    u32 there;
    float weight; // of the lane's own source
    bool is_first, is_last;
    u8* output;
};

// Contributions are loaded by bulk copies, one lane each, a stage ahead of the lanes that add them.
template <class Element, u32 SOURCES, class Sums> DEVICE void add_all(const Sums& sums, u32* counter, u32 row_bytes, u32 shared) {
    constexpr u32 CHUNK_BYTES = STAGE_BYTES / SOURCES, UNITS = CHUNK_BYTES / (WARP * 16); // of 16 bytes that a lane adds
    u32 lane = lane_index(), warp = warp_index();
    u32 barriers = shared + warp * STAGES * 8, ring = shared + RING_OFFSET + warp * STAGES * STAGE_BYTES;
    if (lane == 0) {
        for (u32 stage = 0; stage < STAGES; stage++) mbarrier_init(barriers + 8 * stage, 1);
        mbarrier_init_fence();
    }
    sync_warp();
    u32 groups = (sums.places() + SOURCES - 1) / SOURCES;
    Stretches stretches(sums.count(), row_bytes, CHUNK_BYTES);
    bool multiplies = sums.multiplies();
    Item item(stretches, counter);
    auto term_of_item = [&]() INLINED { return lane < SOURCES && item.stretch < stretches.all ? sums.term(item.sum, item.group * SOURCES + lane) : Term { nullptr, 0 }; };
    Term next = term_of_item();
    auto load = [&](u32 stage) INLINED {
        if (item.stretch >= stretches.all) return Load {};
        u32 barrier = barriers + 8 * stage, offset = item.chunk * CHUNK_BYTES, left = row_bytes - offset, there = ballot(next.row != nullptr);
        Load started = { left < CHUNK_BYTES ? left : CHUNK_BYTES, there, next.weight, item.group == 0, item.group + 1 == groups, sums.output(item.sum) + offset };
        if (lane == 0) mbarrier_arrive_expect(barrier, (u32)__builtin_popcount(there) * started.bytes);
        sync_warp();
        if (next.row) bulk_load(ring + stage * STAGE_BYTES + lane * CHUNK_BYTES, next.row + offset, started.bytes, barrier);
        u32 before = item.stretch;
        item.next(stretches, counter, groups);
        if (groups > 1 || item.stretch != before) next = term_of_item();
        return started;
    };

    u32 mask = 0;
    float total[UNITS][Element::COUNT];
    Load coming = load(0);
    for (u32 turn = 0; coming.bytes != 0; turn++) {
        u32 stage = turn % STAGES;
        Load now = coming;
        coming = load((turn + 1) % STAGES);
        if (now.is_first) {
            mask = 0;
            // Minus zero and a number make that number, whatever its sign.
            for (u32 unit = 0; unit < UNITS; unit++) for (u32 i = 0; i < Element::COUNT; i++) total[unit][i] = -0.0f;
        }
        mask |= now.there;
        mbarrier_wait(barriers + 8 * stage, turn / STAGES % 2);
#pragma unroll
        for (u32 source = 0; source < SOURCES; source++) {
            float factor = multiplies ? from_lane(now.weight, source) : 1;
            if ((now.there >> source & 1) == 0) continue;
#pragma unroll
            for (u32 unit = 0; unit < UNITS; unit++) {
                u32 offset = (unit * WARP + lane) * 16;
                if (offset >= now.bytes) continue;
                float values[Element::COUNT];
                Element::widen(ld_shared_16(ring + stage * STAGE_BYTES + source * CHUNK_BYTES + offset), values);
                for (u32 i = 0; i < Element::COUNT; i++) total[unit][i] = add(total[unit][i], multiplies ? multiply(values[i], factor) : values[i]);
            }
        }
        fence_proxy_async_shared();
        sync_warp();
        if (!now.is_last) continue;
#pragma unroll
        for (u32 unit = 0; unit < UNITS; unit++) {
            u32 offset = (unit * WARP + lane) * 16;
            if (offset < now.bytes) st_16(now.output + offset, mask == 0 ? uint4 {} : Element::round(total[unit]));
        }
    }
}

// For each choice the sum of what the rows that stand for it carry.
DEVICE void reduce_weights(const CombineArgs& a, const Heard* heard) {
    u32 k = a.x.top_k;
    u64 all = (u64)a.tokens * k;
    for (u64 i = (u64)block_index() * THREADS + thread_index(); i < all; i += (u64)block_count() * THREADS) {
        u64 token = i / k;
        float sum = 0;
        for (u32 e = 0; e < k; e++) {
            Entry entry = a.sent[token * k + e];
            if (entry.rank < 0 || (a.mine.signature.layout == EXPERT_MAJOR && e != i % k)) continue;
            const float* weights = (const float*)(a.x.arenas[entry.rank] + heard[entry.rank].weights_offset);
            if (a.mine.signature.layout == EXPERT_MAJOR) sum = weights[entry.row];
            else sum = add(sum, weights[(i64)entry.row * k + (u32)(i % k)]);
        }
        a.reduced_weights[i] = sum;
    }
}

// ---- the call

DEVICE i64 rows_shown(const CombineArgs& a, u32 rank) { return (a.mine.signature.traits & PRE_REDUCE) != 0 ? a.plan->tokens[rank] : a.plan->rows[rank]; }

// What a block knows of the call once all ranks have announced it.
struct Agreed {
    Heard heard[MAX_RANKS];
    const u8* results[MAX_RANKS];
    Verdict verdict;
};

// By a warp: where every rank's results lie, checked; false where that cannot be.
DEVICE bool locate(const CombineArgs& a, Agreed& agreed, u64 epoch) {
    bool bad = false;
    ROLLED for (u32 rank = lane_index(); rank < a.x.ranks; rank += WARP) {
        const Heard& said = agreed.heard[rank];
        i64 rows = rows_shown(a, rank);
        i64 weights = (i64)(a.mine.signature.layout == EXPERT_MAJOR ? 1 : a.x.top_k) * 4 * a.plan->rows[rank];
        bool has_weights = (a.mine.signature.traits & WEIGHTS) != 0;
        agreed.results[rank] = a.x.arenas[rank] + said.region_offset;
        if (said.region_rows == rows && is_in_pool(a.x, said.region_offset, rows * a.row_bytes) && (!has_weights || is_in_pool(a.x, said.weights_offset, weights))) continue;
        raise(a.x, COMBINE, AWAIT_ANNOUNCEMENT, epoch, rank, rows, said.region_rows);
        bad = true;
    }
    return !bad;
}

// The verdict, and where results lie if it is favourable; false where they cannot.
DEVICE bool agree(const CombineArgs& a, Agreed& agreed, u64 epoch) {
    bool failed = false;
    if (warp_index() == 0) {
        Verdict verdict = someone_cannot(a.x, agreed.heard);
        if (lane_index() == 0) agreed.verdict = verdict;
        failed = verdict.refused == GRANTED && !locate(a, agreed, epoch);
    }
    return !any_of_block(failed);
}

template <class Element> DEVICE void combine(const CombineArgs& a) {
    DYNAMIC_SHARED(shared);
    SHARED static Agreed agreed;
    SHARED static Announcement mine;
    SHARED static Call call;
    griddepcontrol_wait();
    if (thread_index() == 0) call = this_call(a.x, a.acknowledged);
    if (thread_index() == WARP) {
        keep(mine, a.mine);
        mine.region_rows = rows_shown(a, a.x.rank);
        name_plan(mine, a.plan);
    }
    sync_block();
    if (call.is_over) return;
    u64 epoch = call.epoch;
    if (call.is_void) {
        if (block_index() == 0 && warp_index() == 0) await_readers(a.x, COMBINE, epoch);
        return;
    }
    if (block_index() == 0 && warp_index() == THREADS / WARP - 1) {
        write_announcement(a.x, mine, epoch);
        sync_warp();
        flag_announcement(a.x, lane_index(), WARP, epoch);
    }
    if (!hear(a.x, mine.signature, epoch, agreed.heard) || !agree(a, agreed, epoch)) return;
    bool refused = agreed.verdict.refused != GRANTED;
    if (!refused) {
        // What follows reads what the flags guard by bulk copies.
        fence_proxy_async_global();
        Tokens tokens(a, agreed.results);
        // The fewer come together, the longer the chunks: what a turn takes beside adding is for more bytes.
        if (tokens.places() <= FEW) add_all<Element, FEW>(tokens, &a.x.state->taken, a.row_bytes, shared_address(shared));
        else add_all<Element, MANY>(tokens, &a.x.state->taken, a.row_bytes, shared_address(shared));
        if (a.reduced_weights) reduce_weights(a, agreed.heard);
    }
    if (!is_last_block<TO_OWN_BLOCKS>(&a.x.state->finished)) return;
    if (refused && thread_index() == 0) tell_refusal(a.x, a.mine, agreed.verdict, epoch);
    ROLLED for (u32 rank = thread_index(); rank < a.x.ranks; rank += THREADS) st_release_sys(done_at(a.x, rank, a.x.rank), epoch_word(epoch));
    if (thread_index() != 0) return;
    st_relaxed_gpu(&a.x.state->taken, 0u);
    st_relaxed_gpu(&a.x.state->pulled, epoch);
    st_relaxed_gpu(&a.x.state->epoch, epoch);
}

template <class Element> DEVICE void sum_groups(const SumArgs& a) {
    DYNAMIC_SHARED(shared);
    griddepcontrol_wait();
    if (is_over(a.x)) return;
    add_all<Element, MANY>(Groups { a }, &a.x.state->taken, a.row_bytes, shared_address(shared));
    if (is_last_block<TO_OWN_BLOCKS>(&a.x.state->finished) && thread_index() == 0) st_relaxed_gpu(&a.x.state->taken, 0u);
}

KERNEL(THREADS) combine_bfloat16(const CombineArgs a) { combine<BFloat16>(a); }
KERNEL(THREADS) combine_half(const CombineArgs a) { combine<Half>(a); }
KERNEL(THREADS) combine_single(const CombineArgs a) { combine<Single>(a); }
KERNEL(THREADS) sum_groups_bfloat16(const SumArgs a) { sum_groups<BFloat16>(a); }
KERNEL(THREADS) sum_groups_half(const SumArgs a) { sum_groups<Half>(a); }
KERNEL(THREADS) sum_groups_single(const SumArgs a) { sum_groups<Single>(a); }
