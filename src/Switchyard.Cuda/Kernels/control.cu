// Small steps beside the calls: to wait for those who read, and to say that this rank makes no more calls.
#include "exchange.cuh"

// Until all readers of the last combine are done; for memory that the caller is to write before the next call.
KERNEL(32) await_done(const Exchange x) {
    if (is_over(x)) return;
    await_readers(x, NO_CALL, ld_relaxed_gpu(&x.state->epoch));
}

// After a fault the peers have its record, and must not take a closed buffer for its cause.
KERNEL(64) close(const Exchange x) {
    if (is_over(x)) return;
    if (thread_index() < x.ranks) st_release_sys(closed_at(x, thread_index(), x.rank), 1u);
}
