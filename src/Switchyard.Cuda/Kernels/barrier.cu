// A barrier of all blocks of all ranks: what was written before it by any is seen after it by all. It ends at a deadline, or when a rank
// raises abort, in a record, and never traps.
#include "ptx.cuh"

constexpr u32 MAX_RANKS = 64;
constexpr u32 CHECK_CYCLES = 1 << 15; // how often a wait looks past the flag, at the abort word and the clock: some 16 microseconds

// A rank's words that its peers write. All begin as zeros.
struct BarrierBoard {
    u64 arrived[MAX_RANKS]; // by rank: the last barrier it came to
    u64 abort;              // 1 + the rank that gave up
};

// A rank's words that only its own kernels touch. All begin as zeros.
struct BarrierState {
    u64 epoch;  // barriers that this rank came to
    u64 fault;  // not 0: a wait has failed, and nothing is announced any more
    u32 blocks; // of this rank that came to the current one
};

// What the host reads of a wait that failed; in its memory.
struct BarrierRecord {
    u64 cause; // written last
    u64 epoch;
    u64 rank;  // waited for, or that gave up
    u64 seen;  // the last barrier that the rank was seen at
    u64 waited_ns;
};

enum Cause : u64 { NONE = 0, DEADLINE = 1, ABORTED = 2 };

struct BarrierArgs {
    BarrierBoard* boards[MAX_RANKS]; // by rank, as this device addresses them
    BarrierState* state;
    BarrierRecord* record;
    u64* ended; // null, or where the time is noted when all barriers are behind
    u64 timeout_ns;
    u32 rank;
    u32 ranks;
    u32 rounds; // barriers in a row
};

DEVICE void raise_abort(const BarrierArgs& a) {
    for (u32 rank = 0; rank < a.ranks; rank++) st_release_sys(&a.boards[rank]->abort, 1 + a.rank);
}

// The first thread of the rank whose wait fails tells the host and all ranks, this rank's other blocks included.
DEVICE void fail(const BarrierArgs& a, Cause cause, u64 epoch, u32 rank, u64 seen, u64 waited_ns) {
    if (compare_and_swap_gpu(&a.state->fault, NONE, cause) != NONE) return;
    st_relaxed_sys(&a.record->epoch, epoch);
    st_relaxed_sys(&a.record->rank, rank);
    st_relaxed_sys(&a.record->seen, seen);
    st_relaxed_sys(&a.record->waited_ns, waited_ns);
    st_release_sys(&a.record->cause, cause);
    if (cause == DEADLINE) raise_abort(a);
}

// The block that comes last of its rank's announces the rank; its count begins anew for the next round.
DEVICE void arrive(const BarrierArgs& a, u64 epoch, bool announces) {
    SHARED static bool last;
    sync_block();
    if (thread_index() == 0) {
        u32 most = block_count() - 1;
        last = most == 0 || count_acq_rel_gpu(&a.state->blocks, most) == most;
    }
    sync_block();
    if (!last) return;
    if (announces && thread_index() < a.ranks) st_release_sys(&a.boards[thread_index()]->arrived[a.rank], epoch);
    if (thread_index() == 0) st_relaxed_gpu(&a.state->epoch, epoch);
}

DEVICE bool await(const BarrierArgs& a, u64 epoch, u32 rank) {
    const BarrierBoard* own = a.boards[a.rank];
    u64 began = 0; // at the first look past the flag
    for (u32 checked = cycles();;) {
        u64 seen = ld_acquire_sys(&own->arrived[rank]);
        if (seen >= epoch) return true;
        if (cycles() - checked < CHECK_CYCLES) continue;
        checked = cycles();
        u64 now = globaltimer();
        if (began == 0) began = now;
        u64 abort = ld_relaxed_sys(&own->abort);
        if (abort != 0) {
            fail(a, ABORTED, epoch, (u32)abort - 1, seen, now - began);
            return false;
        }
        if (now - began >= a.timeout_ns) {
            fail(a, DEADLINE, epoch, rank, seen, now - began);
            return false;
        }
    }
}

KERNEL(1024) barrier(const BarrierArgs a) {
    griddepcontrol_wait();
    u64 before = ld_relaxed_gpu(&a.state->epoch);
    bool announces = ld_relaxed_gpu(&a.state->fault) == NONE;
    for (u32 round = 1; round <= a.rounds; round++) {
        arrive(a, before + round, announces);
        bool failed = thread_index() < a.ranks && !await(a, before + round, thread_index());
        if (any_of_block(failed)) return;
    }
    if (a.ended && block_index() == 0 && thread_index() == 0) st_relaxed_sys(a.ended, globaltimer());
    griddepcontrol_launch_dependents();
}

// Notes the time at which what is ahead of it in its stream has ended.
struct StampArgs { u64* time; };
KERNEL(32) stamp(const StampArgs a) {
    griddepcontrol_wait();
    if (thread_index() == 0) st_relaxed_sys(a.time, globaltimer());
}
