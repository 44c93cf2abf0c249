// What the kernels of a call share: the messages of the exchange as docs/spec lays them out, waits that end, and faults that all ranks learn.
#pragma once
#include "ptx.cuh"

constexpr u32 MAX_RANKS = 64;
constexpr u32 LINE = 64;            // bytes; flags of different writers lie a line apart
constexpr u32 RING_DEPTH = 2;
constexpr u32 CHECK_CYCLES = 1 << 15; // how often a wait looks past its flag, at words of this device: some 16 microseconds
constexpr u64 HOST_CHECK_NS = 200000; // and at the host's, which are far: a flag that comes meanwhile is seen late
constexpr i64 MAX_TOKENS = 1 << 20;

enum Operation : u8 { NO_CALL = 0, DISPATCH = 1, CACHED_DISPATCH = 2, COMBINE = 3 };
enum Phase : u8 { AWAIT_DONE = 2, AWAIT_ANNOUNCEMENT = 3, AWAIT_ROWS = 4 };
enum FaultKind : u8 { PEER_LEFT = 2, PEER_CLOSED = 3, TIMEOUT = 4, MISMATCH = 5, PROTOCOL = 6 };
enum Traits : u8 { WEIGHTS = 1, FIXED_SHAPE = 2, PRE_REDUCE = 4 };
enum Layout : u8 { RANK_MAJOR = 0, EXPERT_MAJOR = 1 };

// What all ranks must give alike in a call.
struct Signature {
    Operation operation;
    Layout layout;
    u8 traits;
    u8 quantize; // Scaling
    i32 alignment;
    i64 handle_epoch; // of calls by a handle: the kernel's own, from the plan
    i32 row_bytes;
    i32 scale_bytes;
    u8 element, scale_element, scale_layout; // of bytes behind these nothing is said
    u8 unused[5];
};

struct Announcement {
    u64 flag; // written last
    Signature signature;
    i64 region_offset;
    i64 region_rows;
    i64 weights_offset;
    i64 needed; // not 0: this rank cannot take part, for want of so many bytes, or of a plan; below 0: for token -1 - needed, whose choice is no expert ...
    i64 available; // ... but this
    i64 epoch; // as the kernel is told: the host's number of the call, 0 in a graph
    u32 check; // of ranks on hosts
    u8 unused[36];
};

struct FaultRecord {
    FaultKind kind;
    Operation operation;
    Phase phase;
    u8 reserved;
    i32 reporter;
    i32 culprit;
    i32 has_no_thread;
    i64 epoch;
    i64 expected;
    i64 seen;
    i64 waited_ticks; // of 100 ns
    Signature reporters;
    Signature culprits;
    u8 unused[16];
};
static_assert(sizeof(Signature) == 32 && sizeof(Announcement) == 128 && sizeof(FaultRecord) == 128);

// Whose later calls go on, and find no rows.
DEVICE bool is_in_graph(const Announcement& mine) { return mine.epoch == 0; }

// A rank's words that only its own kernels touch; the counts of blocks follow. All begin as zeros.
struct State {
    u64 epoch;    // calls done
    u64 pulled;   // the last of them that was a combine
    u64 broken;   // not 0: a wait has failed, and nothing is done any more
    u64 refused;  // the last call that was refused; 0: none
    u32 begun;    // blocks of the running call that came so far
    u32 finished;
    u32 placed;   // blocks of a dispatch that know where their rows go; 0 between calls
    u32 taken;    // tokens or stretches of sums that warps have taken, the first of each not counted; 0 between kernels
    u64 waited_ns[MAX_RANKS]; // by rank, for it, in all waits that took long enough to look past their flags
};

enum Refusal : u64 { GRANTED = 0, NO_BYTES = 1, NO_ROWS = 2, NO_EXPERT = 3, NO_PLAN = 4 };
constexpr i64 NEEDS_PLAN = i64(1ull << 63); // what a rank announces as needed whose handle is of a dispatch that brought nothing

// Pinned memory of a rank's host: what it tells the kernels, and what they tell it.
struct Control {
    u64 deadline_ns;
    u64 abort;           // not 0: the host has a fault of its own
    u64 left;            // a bit for each rank that has left
    u64 faulted;         // 1 once fault is there
    FaultRecord fault;
    u64 told;            // the call whose counts are there
    u64 refused;         // the last call that was refused, once what follows says why; 0: none
    Refusal refusal;
    u64 refused_rank;
    i64 refused_needed;
    i64 refused_available;
    u64 refused_operation;
    u64 refused_number;  // by the host that is told, 0 in a graph
    u64 waited_ns[MAX_RANKS];
};

// Where each row of a dispatch goes, and what this rank receives. Entries of this rank's rows lie elsewhere.
struct Plan {
    u64 born;                     // the dispatch that made it; 0: one that was refused, or behind such a one
    i64 rows[MAX_RANKS];          // by rank: that it receives, alignment included
    i64 tokens[MAX_RANKS];        // by rank: tokens of all that have rows there
    i32 sent_to[MAX_RANKS];       // rows of this rank
    i32 received_from[MAX_RANKS]; // rows, alignment not included
    i32 tokens_from[MAX_RANKS];
    // Then i32: by local expert its tokens; by local expert its first row, then the end.
};

DEVICE i32* tokens_per_expert(Plan* plan) { return (i32*)(plan + 1); }
DEVICE i32* expert_offsets(Plan* plan, u32 locals) { return tokens_per_expert(plan) + locals; }

// A row of one of this rank's tokens: who has it, and where.
struct alignas(8) Entry { i32 rank; i32 row; }; // rank -1: none

// The buffer as one rank sees it; where things lie in every arena comes from the host, which alone computes it.
struct Exchange {
    u8* arenas[MAX_RANKS];
    State* state;
    Control* control;
    const Exchange* self; // the same in device memory: what happens rarely is not compiled into each place, and takes that
    i64 abort_at, faults_at, arrivals_at, done_at, closed_at, ring_at, pool_at, total_bytes;
    u32 entry_bytes, rank_counts_at, expert_counts_at;
    u32 rank, ranks, experts, top_k, unused;
};

DEVICE u32* abort_of(const Exchange& x, u32 rank) { return (u32*)(x.arenas[rank] + x.abort_at); }
DEVICE FaultRecord* fault_at(const Exchange& x, u32 rank, u32 reporter) { return (FaultRecord*)(x.arenas[rank] + x.faults_at) + reporter; }
DEVICE u64* arrival_at(const Exchange& x, u32 rank, u32 source) { return (u64*)(x.arenas[rank] + x.arrivals_at + source * LINE); }
DEVICE u64* done_at(const Exchange& x, u32 rank, u32 reader) { return (u64*)(x.arenas[rank] + x.done_at + reader * LINE); }
DEVICE u32* closed_at(const Exchange& x, u32 rank, u32 peer) { return (u32*)(x.arenas[rank] + x.closed_at + peer * LINE); }
DEVICE Announcement* entry_at(const Exchange& x, u32 rank, u32 source, u64 epoch) {
    return (Announcement*)(x.arenas[rank] + x.ring_at + ((u64)source * RING_DEPTH + epoch % RING_DEPTH) * x.entry_bytes);
}
DEVICE i32* rank_counts(const Exchange& x, Announcement* entry) { return (i32*)((u8*)entry + x.rank_counts_at); }
DEVICE i32* expert_counts(const Exchange& x, Announcement* entry) { return (i32*)((u8*)entry + x.expert_counts_at); }

// ---- words with an epoch: 24 bits of count, 39 of epoch, one that makes the number of ones even

DEVICE u64 epoch_word(u64 epoch, u32 count = 0) {
    u64 word = (epoch << 24 | count) & ~(1ull << 63);
    return word | (u64)(__builtin_popcountll(word) & 1) << 63;
}
DEVICE i64 epochs_past(u64 word, u64 epoch) { return (i64)((word << 1) - (epoch << 25)) >> 25; }
DEVICE u32 count_of(u64 word) { return (u32)word & 0xffffff; }

// ---- faults

// Records lie where other ranks write; a thread's own copy of one lies in no memory that these instructions reach.
DEVICE void read_record(FaultRecord& to, const FaultRecord* from) {
    for (u32 i = 0; i < sizeof(FaultRecord) / 8; i++) ((u64*)&to)[i] = ld_relaxed_sys((const u64*)from + i);
}
DEVICE void write_record(FaultRecord* to, const FaultRecord& from) {
    for (u32 i = 0; i < sizeof(FaultRecord) / 8; i++) st_relaxed_sys((u64*)to + i, ((const u64*)&from)[i]);
}

// Hands the fault that was first in this rank's arena to its host.
DEVICE_RARELY void tell_host(const Exchange& x) {
    u32 slot = ld_acquire_sys(abort_of(x, x.rank)) - 1;
    if (slot > x.ranks) slot = x.rank;
    FaultRecord record;
    read_record(record, fault_at(x, x.rank, slot));
    write_record(&x.control->fault, record);
    st_release_sys(&x.control->faulted, 1);
}

DEVICE_RARELY void post(const Exchange& x, u32 to, const FaultRecord& record) {
    if (ld_acquire_sys(abort_of(x, to)) != 0) return;
    write_record(fault_at(x, to, x.rank), record);
    fence_sys();
    compare_and_swap_sys(abort_of(x, to), 0, x.rank + 1);
}

DEVICE bool breaks(const Exchange& x) { return compare_and_swap_gpu(&x.state->broken, 0, 1) == 0; }

// Tells all ranks. Of several that report at once, the one whose record was first at rank 0 is believed by all.
DEVICE_RARELY void raise_from(const Exchange& x, const FaultRecord& fault) {
    if (!breaks(x)) return;
    FaultRecord record = fault;
    record.reporter = (i32)x.rank;
    post(x, 0, record);
    u32 first = ld_acquire_sys(abort_of(x, 0)) - 1;
    if (first < x.ranks) read_record(record, fault_at(x, 0, first));
    for (u32 rank = 1; rank < x.ranks; rank++) post(x, rank, record);
    tell_host(x);
}

DEVICE_RARELY FaultRecord fault_of(FaultKind kind, Operation operation, Phase phase, u64 epoch, u32 culprit, i64 expected, i64 seen) {
    FaultRecord record = {};
    record.kind = kind;
    record.operation = operation;
    record.phase = phase;
    record.epoch = (i64)epoch;
    record.culprit = (i32)culprit;
    record.expected = expected;
    record.seen = seen;
    return record;
}

DEVICE_RARELY void raise_fault(const Exchange& x, FaultKind kind, Operation operation, Phase phase, u64 epoch, u32 culprit, i64 expected, i64 seen) {
    raise_from(x, fault_of(kind, operation, phase, epoch, culprit, expected, seen));
}
// Where something was said or written that cannot be.
DEVICE void raise(const Exchange& x, Operation operation, Phase phase, u64 epoch, u32 culprit, i64 expected, i64 seen) {
    raise_fault(*x.self, PROTOCOL, operation, phase, epoch, culprit, expected, seen);
}

DEVICE bool is_broken(const Exchange& x) { return ld_relaxed_gpu(&x.state->broken) != 0; }

// Whether there is nothing left to do on this buffer: also where another rank gave up while this one was elsewhere.
DEVICE bool is_over(const Exchange& x) {
    if (is_broken(x)) return true;
    if (ld_relaxed_sys(abort_of(x, x.rank)) == 0) return false;
    if (breaks(x)) tell_host(*x.self);
    return true;
}

// What a block needs to know before it announces anything: which call this is, and whether there is one. Loads that do not wait for each other.
// Until a rank's host has thrown a refusal, which it may learn of some calls later, its calls are void: they do nothing and have no number, and
// all ranks go on with the call behind the one that was refused. What follows them may write what peers read, and so they wait for those.
struct Call { u64 epoch; bool is_over, is_void; };
DEVICE Call this_call(const Exchange& x, u64 acknowledged) {
    u64 done = ld_relaxed_gpu(&x.state->epoch), broken = ld_relaxed_gpu(&x.state->broken), refused = ld_relaxed_gpu(&x.state->refused);
    u32 abort = ld_relaxed_sys(abort_of(x, x.rank));
    if (broken == 0 && abort != 0 && breaks(x)) tell_host(*x.self);
    return { done + 1, broken != 0 || abort != 0, refused > acknowledged };
}

// ---- waiting

// The last call that a peer has announced here.
DEVICE_RARELY i64 last_announced(const Exchange& x, u32 peer, u64 near) {
    i64 last = -1;
    for (u32 entry = 0; entry < RING_DEPTH; entry++) {
        i64 epoch = (i64)near + epochs_past(ld_relaxed_sys(&entry_at(x, x.rank, peer, entry)->flag), near);
        if (epoch > last) last = epoch;
    }
    return last;
}

// What a wait finds past its flag.
struct Wait {
    const u64* word;
    u64 epoch;
    u32 peer;
    Operation operation;
    Phase phase;
    u64 call;
    u64 began; // the first look; 0 before
    u64 asked; // the last look at the host's words, or the first of all
};

// Whether a wait is to go on. Where not, all ranks are told why.
DEVICE_RARELY bool goes_on(const Exchange& x, Wait& wait) {
    u64 now = globaltimer();
    if (wait.began == 0) wait.began = wait.asked = now;
    u32 abort = ld_relaxed_sys(abort_of(x, x.rank));
    bool broken = is_broken(x);
    if (abort != 0) {
        if (breaks(x)) tell_host(x);
        return false;
    }
    if (broken) return false;
    // Where all blocks wait for the same, one asks the host for all.
    if (now - wait.asked < HOST_CHECK_NS || (wait.phase == AWAIT_ANNOUNCEMENT && block_index() != 0)) return true;
    wait.asked = now;
    u64 host_abort = ld_relaxed_sys(&x.control->abort), have_left = ld_relaxed_sys(&x.control->left), deadline = ld_relaxed_sys(&x.control->deadline_ns);
    bool closed = ld_relaxed_sys(closed_at(x, x.rank, wait.peer)) != 0, left = (have_left >> wait.peer & 1) != 0;
    if (host_abort != 0) {
        breaks(x);
        return false;
    }
    if (!closed && !left && now - wait.began < deadline) return true;
    if (epochs_past(ld_acquire_sys(wait.word), wait.epoch) >= 0) return true; // it came before its writer went
    FaultKind kind = left ? PEER_LEFT : closed ? PEER_CLOSED : TIMEOUT;
    FaultRecord record = fault_of(kind, wait.operation, wait.phase, wait.call, wait.peer, (i64)wait.epoch, last_announced(x, wait.peer, wait.call));
    record.waited_ticks = (i64)(now - wait.began) / 100;
    raise_from(x, record);
    return false;
}

// Until a word that a peer writes has reached an epoch: what its writer wrote before is then visible. False where it never will.
DEVICE bool await(const Exchange& x, const u64* word, u64 epoch, u32 peer, Operation operation, Phase phase, u64 call, u64* seen = nullptr) {
    u64 value = ld_acquire_sys(word);
    if (epochs_past(value, epoch) < 0) {
        Wait wait = { word, epoch, peer, operation, phase, call, 0, 0 };
        for (u32 checked = cycles(); epochs_past(value = ld_acquire_sys(word), epoch) < 0;) {
            if (cycles() - checked < CHECK_CYCLES) continue;
            if (!goes_on(*x.self, wait)) return false;
            checked = cycles();
        }
        if (wait.began != 0 && block_index() == 0) {
            u64 waited = x.state->waited_ns[peer] += globaltimer() - wait.began;
            st_relaxed_sys(&x.control->waited_ns[peer], waited);
        }
    }
    if (seen) *seen = value;
    return true;
}

// True in all threads of the block that comes last; what the others did before is then visible to it, and, where it went to other ranks, to
// whoever acquires what it then releases.
enum Written : u8 { TO_OWN_BLOCKS, TO_OTHER_RANKS };
template <Written Where> DEVICE bool is_last_block(u32* counter) {
    SHARED static bool last;
    sync_block();
    if (thread_index() == 0) {
        if (Where == TO_OTHER_RANKS) fence_sys();
        u32 most = block_count() - 1;
        last = most == 0 || count_acq_rel_gpu(counter, most) == most;
    }
    sync_block();
    return last;
}

// By a warp, before memory is written that was read in the last combine: until all its readers are done.
DEVICE bool await_readers(const Exchange& x, Operation operation, u64 call) {
    u64 pulled = ld_relaxed_gpu(&x.state->pulled);
    bool failed = false;
    ROLLED for (u32 reader = lane_index(); reader < x.ranks && pulled != 0; reader += WARP)
        failed |= !await(x, done_at(x, x.rank, reader), pulled, reader, operation, AWAIT_DONE, call);
    return ballot(failed) == 0;
}

// ---- announcing and hearing

constexpr u32 WORDS = sizeof(Announcement) / 8;
constexpr u32 SIGNATURE_AT = 1, HEARD_AT = 5, EPOCH_AT = 10; // words of an announcement
constexpr u32 SIGNATURE_WORDS = sizeof(Signature) / 8;

// What a rank has announced beside its signature; copied once, so that what is checked is what is used.
struct Heard { i64 region_offset, region_rows, weights_offset, needed, available; };
constexpr u32 HEARD_WORDS = sizeof(Heard) / 8;

// By one thread: which plan a call by a handle goes by.
DEVICE void name_plan(Announcement& mine, const Plan* plan) {
    mine.signature.handle_epoch = (i64)plan->born;
    if (plan->born == 0) mine.needed = NEEDS_PLAN;
}

// By one thread, word by word: a kernel's parameter that is copied as a whole is copied for every thread when it starts.
template <class T> DEVICE void keep(T& to, const T& from) {
    for (u32 i = 0; i < sizeof(T) / 8; i++) {
        u64 word = ((const u64*)&from)[i];
        keep_in_register(word);
        ((u64*)&to)[i] = word;
    }
}

// By a warp: the message, all but its flag, to every rank's ring, this one's own too; two ranks at a time.
DEVICE void write_announcement(const Exchange& x, const Announcement& mine, u64 epoch) {
    u32 word = lane_index() % WORDS;
    u64 value = word == EPOCH_AT ? epoch : ((const u64*)&mine)[word];
    ROLLED for (u32 peer = lane_index() / WORDS; peer < x.ranks; peer += WARP / WORDS)
        if (word != 0) ((u64*)entry_at(x, peer, x.rank, epoch))[word] = value;
}

// By as many threads as there are ranks, after all of the message: a release tells of all that came before it, through a barrier what other
// threads wrote too.
DEVICE void flag_announcement(const Exchange& x, u32 thread, u32 threads, u64 epoch) {
    ROLLED for (u32 peer = thread; peer < x.ranks; peer += threads) st_release_sys(&entry_at(x, peer, x.rank, epoch)->flag, epoch_word(epoch));
}

DEVICE_RARELY void raise_unheard(const Exchange& x, const Signature& mine, u32 peer, u64 epoch) {
    const Announcement* entry = entry_at(x, x.rank, peer, epoch);
    bool is_late = entry->epoch != (i64)epoch;
    FaultRecord record = fault_of(is_late ? PROTOCOL : MISMATCH, mine.operation, AWAIT_ANNOUNCEMENT, epoch, peer, is_late ? (i64)epoch : 0, is_late ? entry->epoch : 0);
    if (!is_late) {
        record.reporters = mine;
        record.culprits = entry->signature;
    }
    raise_from(x, record);
}

// Until every rank has announced this call; false where one never will, or announced another. Half a warp a rank reads what it said, a word a lane.
DEVICE bool hear(const Exchange& x, const Signature& mine, u64 epoch, Heard* heard) {
    bool failed = false;
    u32 lane = lane_index(), word = lane % WORDS, half = lane - word;
    ROLLED for (u32 first = warp_index() * 2; first < x.ranks; first += block_threads() / WORDS) {
        u32 peer = first + lane / WORDS;
        bool is_one = peer < x.ranks, came = false;
        Announcement* entry = entry_at(x, x.rank, is_one ? peer : 0, epoch);
        if (is_one && word == 0) came = await(x, &entry->flag, epoch, peer, mine.operation, AWAIT_ANNOUNCEMENT, epoch);
        came = from_lane((u32)came, half) != 0;
        u64 value = came ? ld_others((const u64*)entry + word) : 0;
        bool differs = false;
        if (word - SIGNATURE_AT < SIGNATURE_WORDS) {
            u64 said = value ^ ((const u64*)&mine)[word - SIGNATURE_AT];
            differs = (word == SIGNATURE_AT + SIGNATURE_WORDS - 1 ? said & 0xffffff : said) != 0;
        } else if (word - HEARD_AT < HEARD_WORDS) {
            if (came) ((u64*)&heard[peer])[word - HEARD_AT] = value;
        } else if (word == EPOCH_AT) {
            differs = value != epoch;
        }
        u32 differing = ballot(came && differs) >> half & 0xffff;
        if (word != 0 || !is_one) continue;
        if (differing != 0) raise_unheard(*x.self, mine, peer, epoch);
        failed |= !came || differing != 0;
    }
    return !any_of_block(failed);
}

// Whether a peer's rows lie in its pool; what it says is not believed unseen.
DEVICE bool is_in_pool(const Exchange& x, i64 offset, i64 bytes) {
    return bytes == 0 || (offset >= x.pool_at && bytes <= x.total_bytes - x.pool_at && offset <= x.total_bytes - bytes);
}

// By a warp, two ranks a lane: the lowest rank of which something holds; the number of ranks where it does of none.
template <class Holds> DEVICE u32 first_rank(const Exchange& x, Holds holds) {
    u32 lane = lane_index();
    bool low = lane < x.ranks && holds(lane), high = lane + WARP < x.ranks && holds(lane + WARP);
    u32 lows = ballot(low), highs = ballot(high);
    return lows ? (u32)__builtin_ctz(lows) : highs ? WARP + (u32)__builtin_ctz(highs) : x.ranks;
}

// Why no rank takes part in a call; the same on all.
struct Verdict {
    u64 refused; // Refusal
    u32 rank;
    i64 needed, available;
};

DEVICE void tell_refusal(const Exchange& x, const Announcement& mine, const Verdict& verdict, u64 epoch) {
    st_relaxed_gpu(&x.state->refused, epoch);
    st_relaxed_sys(&x.control->refused, 0);
    fence_sys();
    st_relaxed_sys((u64*)&x.control->refusal, verdict.refused);
    st_relaxed_sys(&x.control->refused_rank, verdict.rank);
    st_relaxed_sys((u64*)&x.control->refused_needed, (u64)verdict.needed);
    st_relaxed_sys((u64*)&x.control->refused_available, (u64)verdict.available);
    st_relaxed_sys(&x.control->refused_operation, mine.signature.operation);
    st_relaxed_sys(&x.control->refused_number, (u64)mine.epoch);
    st_release_sys(&x.control->refused, epoch);
}

// By a warp: whether any rank has said that it cannot take part.
DEVICE Verdict someone_cannot(const Exchange& x, const Heard* heard) {
    u32 rank = first_rank(x, [&](u32 each) INLINED { return heard[each].needed != 0; });
    if (rank == x.ranks) return { GRANTED, rank, 0, 0 };
    i64 needed = heard[rank].needed;
    if (needed == NEEDS_PLAN) return { NO_PLAN, rank, 0, 0 };
    return { needed < 0 ? NO_EXPERT : NO_BYTES, rank, needed < 0 ? -1 - needed : needed, heard[rank].available };
}
