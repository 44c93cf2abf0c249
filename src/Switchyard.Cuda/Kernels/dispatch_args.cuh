// What a dispatch is told, and what its blocks come to know of it.
#pragma once
#include "exchange.cuh"

constexpr u32 THREADS = 512;
constexpr u32 WARPS = THREADS / WARP;
constexpr u32 STAGES = 2;
constexpr u32 RING_OFFSET = 256;      // the mbarriers of the movers come first: 8 bytes a stage and warp
constexpr u32 NOTHING_WRONG = 0xffffffff;

// When each part of a call ended, by the clock that all kernels share.
enum Mark : u32 { BEGUN = 0, COUNTED = 1, HEARD = 2, AGREED = 3, PLACED = 4, MOVED = 5, KEPT = 6, SIGNALLED = 7, MARKS = 8 };

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
    u64 acknowledged;        // refusals up to this one are known to the host; all where it is not asked
    u64* marks;              // null, or by block its marks
    i32 receive_capacity;
    u32 tokens;
    u32 indices_are_wide;
    u32 row_bytes, piece_bytes, pieces; // as they travel
    u32 movers;              // warps that move rows; the others write what belongs to them
    u32 scale_bytes, scale_size; // of a row, of one
    u32 awaits_readers;
    u32 zero_padding;
    u32 scale_unit;          // bytes of scales that are moved at a time: of column-major ones one scale; 0 without scales
    u32 lanes_a_token;       // that write what belongs to its rows; a power of two
    u32 movers_scales;       // bytes of scales that the movers take along with a row; 0: the clerks move them
    u32 given_element;       // GivenElement, of rows that are quantized; 0: rows travel as they are
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
    Heard heard[MAX_RANKS];
    Plan plan;
    i32 base[MAX_RANKS];   // where this block's rows to a rank begin; rank-major, and groups of pre-reduced rows
    i32 first_expert[MAX_RANKS + 1];
    Verdict verdict;

    DEVICE u32 locals_of(u32 rank) const { return (u32)(first_expert[rank + 1] - first_expert[rank]); }
};

DEVICE bool is_expert_major(const DispatchArgs& a) { return a.mine.signature.layout == EXPERT_MAJOR; }
DEVICE bool is_fixed(const DispatchArgs& a) { return (a.mine.signature.traits & FIXED_SHAPE) != 0; }
DEVICE bool is_pre_reduced(const DispatchArgs& a) { return (a.mine.signature.traits & PRE_REDUCE) != 0; }
DEVICE bool is_cached(const DispatchArgs& a) { return a.indices == nullptr; }
DEVICE bool by_rank(const DispatchArgs& a) { return !is_expert_major(a) || is_pre_reduced(a); }
// A choice as it was given; and as an expert, -1 for none, or this.
constexpr i32 NO_SUCH_EXPERT = -2;
DEVICE i64 choice_as_given(const DispatchArgs& a, u32 index) { return a.indices_are_wide ? ((const i64*)a.indices)[index] : ((const i32*)a.indices)[index]; }
DEVICE i32 choice_at(const DispatchArgs& a, u32 index) {
    const i32* words = (const i32*)a.indices + ((u64)index << a.indices_are_wide);
    i32 low = words[0], high = low >> 31;
    if (a.indices_are_wide) high = words[1];
    return low < -1 || low >= (i32)a.x.experts || high != low >> 31 ? NO_SUCH_EXPERT : low;
}
DEVICE i64 up(i64 value, u32 power_of_two) { return (value + power_of_two - 1) & -(i64)power_of_two; }

DEVICE void mark(const DispatchArgs& a, Mark mark, u32 thread = 0) {
    if (a.marks && thread_index() == thread) a.marks[block_index() * MARKS + mark] = globaltimer();
}

// Rows of a rank's result: what it receives, or as many as can come.
DEVICE i64 result_rows(const DispatchArgs& a, const Agreed& agreed, u32 rank) {
    return is_fixed(a) ? a.receive_capacity + (a.mine.signature.alignment - 1ll) * agreed.locals_of(rank) : agreed.plan.rows[rank];
}

// A block's part of the tokens, of which there are at most a million.
struct Chunk { u32 begin, end; };
DEVICE Chunk chunk_of(const DispatchArgs& a, u32 block) { return { block * a.tokens / block_count(), (block + 1) * a.tokens / block_count() }; }
// A warp's part of a block's items.
DEVICE Chunk share_of(Chunk items, u32 warp) {
    u32 count = items.end - items.begin;
    return { items.begin + warp * count / WARPS, items.begin + (warp + 1) * count / WARPS };
}
