/*
 * The exchange of one buffer on one node: announcements, grants, arrivals, combines, the reuse of
 * regions, and errors. README.md says what is modelled, what is not, and what each -D of a broken variant breaks.
 *
 * Shared memory is touched one load or one store at a time. What d_step and atomic join:
 * - an access with work on the rank's own variables (and reads of constants and ghosts);
 * - an await with the access after it: an awaited word only grows, so a rank that saw it early and acts
 *   late behaves as one that saw it late. An await that blocks inside an atomic lets the others run, and
 *   each guard of its `if` is one load: that is the polling;
 * - a few groups of stores, each with its reason beside it.
 */

#ifndef RANKS
#define RANKS 2
#endif
#ifndef REGIONS
#define REGIONS 3               /* regions in the pool of a rank; region 0 stands for "none named" */
#endif
#ifndef CALLS
#define CALLS 4
#endif
#define MAX_CALLS 8
#ifdef RING_DEPTH_1
#define DEPTH 1
#else
#define DEPTH 2                 /* entries of a ring */
#endif
#define MAX_LIVE 2              /* results that a caller keeps alive at once */

#define DISPATCH 1
#define CACHED   2
#define COMBINE  3

/* An entry of the ring that one rank writes in a peer's arena. `op` and `birth` stand for the signature of the
 * call. Ghosts: `epoch` tells whose payload it is, `stamp` is the epoch whose rows lie in `region`. */
typedef Announcement { byte flag; byte epoch; byte op; byte birth; byte region; byte counts; byte stamp };
typedef Ring { Announcement entry[DEPTH] };
typedef Region { byte row[RANKS] };

/* Words indexed by a rank are written by that rank alone. */
typedef Arena {
    Ring from[RANKS];
    byte arrival[RANKS];
    byte done[RANKS];
    bit closed[RANKS];
    byte abort;                 /* the first error that reached this rank */
    Region region[REGIONS + 1]
};
Arena arena[RANKS];

#define DIFFERENT 1             /* two ranks make different calls */
#define CLOSED    2             /* a rank closed that was to make another call */

/* The program: what the callers call. `whose` is the call whose handle or result a call uses. */
byte op[MAX_CALLS + 1];
byte whose[MAX_CALLS + 1];

/* Ghost: the destinations (a bit each) to which a rank sends rows in the dispatch of an epoch. It stands
 * for the handles: whoever uses it has read the same from an announcement (asserted), or chose it. */
typedef PerRank { byte to[RANKS] };
PerRank routing[MAX_CALLS + 1];

/* One rank, ODD, may leave out call SKIP, or make calls SWAP and SWAP + 1 in the other order. */
#ifndef ODD
#define ODD (RANKS - 1)
#endif
#if defined(SKIP)
#define CALLS_OF_ODD     (CALLS - 1)
#define LAST_EPOCH       (CALLS - (me == ODD))
#define CALL_AT(epoch)   (((me == ODD) && ((epoch) >= SKIP)) -> (epoch) + 1 : (epoch))
#define EPOCH_OF(call)   (((me == ODD) && ((call) > SKIP)) -> (call) - 1 : (call))
#define USABLE(j)        (j != SKIP)
#elif defined(SWAP)
#define CALLS_OF_ODD     CALLS
#define LAST_EPOCH       CALLS
#define CALL_AT(epoch)   ((me != ODD) -> (epoch) : (((epoch) == SWAP) -> SWAP + 1 : (((epoch) == SWAP + 1) -> SWAP : (epoch))))
#define EPOCH_OF(call)   CALL_AT(call)
#define USABLE(j)        (j != SWAP || c != SWAP + 1)
#else
#define LAST_EPOCH       CALLS
#define CALL_AT(epoch)   (epoch)
#define EPOCH_OF(call)   (call)
#define USABLE(j)        true
#endif

/* The epoch in which the calls of the ranks first differ (0: never), and the error that tells it. */
byte first;
byte why;

#define OP_AT(epoch)     op[CALL_AT(epoch)]
#define WHOSE_AT(epoch)     whose[CALL_AT(epoch)]
/* The dispatch whose plan a call uses; a combine may name a cached dispatch, which has another's plan. */
#define PLAN_CALL(call)  ((op[call] == DISPATCH) -> (call) : ((op[whose[call]] == CACHED) -> whose[whose[call]] : whose[call]))
#define BIRTH_AT(epoch)  ((OP_AT(epoch) == DISPATCH) -> 0 : EPOCH_OF(PLAN_CALL(CALL_AT(epoch))))

/* The peers 1 to RANKS - 1 of a rank: all go through the others in the order of ranks. */
#define PEER(k)          ((k) - ((k) <= me))
#define NEXT(k)          ((me + (k)) % RANKS)
#define ENTRY(p, e)      arena[me].from[p].entry[(e) % DEPTH]
#define SENDS(b, s, p)   ((routing[b].to[s] >> (p)) & 1)
/* A source's row lies behind those of all lower sources: a prefix over the counts. */
#define SLOT(b, s, p)    (((s) > 0 && SENDS(b, 0, p)) + ((s) > 1 && SENDS(b, 1, p)) + ((s) > 2 && SENDS(b, 2, p)))
#define VALUE(e, s)      ((e) * 4 + (s))

#define DIFFERS(x)       (x.op != OP_AT(e) || x.birth != BIRTH_AT(e))

/* A state that the correct model must reach, so that its properties are not empty (-DREACH=n). */
#ifndef REACH
#define REACH 0
#endif
inline reach(n, condition) { assert(REACH != n || !(condition)) }

/* The first error that reaches a rank stays. */
inline raise(p, error) { arena[p].abort = ((arena[p].abort == 0) -> error : arena[p].abort) }

/* Waits for a word that peer p writes. A peer that closed has written its last words before. */
inline await(word, value, p) {
    if
    :: word >= (value)
    :: arena[me].abort != 0 ->
        if
        :: word >= (value)
        :: else -> goto failed
        fi
#ifdef NO_CLOSED_RECHECK
    :: arena[me].closed[p] -> goto closed
#else
    :: arena[me].closed[p] ->
        if
        :: word >= (value)
        :: else -> goto closed
        fi
#endif
    fi
}

/* Awaits and reads for each peer, within an atomic of the caller. Reading all of them late loses nothing:
 * each read is checked by itself, and one that would have to wait still lets the others run. */
#define AWAIT_EACH_PEER(step)                   \
    k = 1;                                      \
    do                                          \
    :: k < RANKS -> step; k++                   \
    :: k == RANKS -> break                      \
    od;                                         \
    k = 0

/* One store for each peer, each its own step. */
#define TELL_EACH_PEER(step)                    \
    k = 1;                                      \
    do                                          \
    :: atomic { k < RANKS -> step; k++ }        \
    :: k == RANKS -> break                      \
    od;                                         \
    k = 0

#define TELL_EACH_DESTINATION(step)             \
    k = 1;                                      \
    do                                          \
    :: atomic { k < RANKS && SENDS(b, me, PEER(k)) -> step; k++ }   \
    :: atomic { k < RANKS && !SENDS(b, me, PEER(k)) -> k++ }        \
    :: k == RANKS -> break                      \
    od;                                         \
    k = 0

/* Awaits the announcement of peer p for this epoch and copies the region that it names. The payload is
 * read in one step: a reader of several words has its last load at some moment, and a payload that is
 * not of this epoch by then is not of this epoch in this step either. */
inline await_announcement(p) {
    await(ENTRY(p, e).flag, e, p);
    assert(ENTRY(p, e).flag == e && ENTRY(p, e).epoch == e);                            /* property b */
    if
#ifndef NO_MISMATCH_CHECK
    :: DIFFERS(ENTRY(p, e)) -> goto mismatched
#endif
    :: else
    fi;
    assert(OP_AT(e) != DISPATCH || ENTRY(p, e).counts == routing[e].to[p]);             /* property b */
    grant[p] = ENTRY(p, e).region
}

#define ALIVE(g)         (result[g] != 0)
#if REGIONS == 2
#define LIVE             (ALIVE(1) + ALIVE(2))
#else
#define LIVE             (ALIVE(1) + ALIVE(2) + ALIVE(3))
#endif

/* The caller reads the rows of a live result. At once: a row that is wrong stays wrong while it lives. */
inline check_rows(g) {
    d_step {
        s = 0;
        do
        :: s < RANKS ->
            assert(s == me || !SENDS(plan[g], s, me)
                || arena[me].region[g].row[SLOT(plan[g], s, me)] == VALUE(stamp[g], s));  /* property c */
            s++
        :: else -> break
        od;
        s = 0
    }
}

inline dispose(g) {
    check_rows(g);
    result[g] = 0; plan[g] = 0; stamp[g] = 0
}

/* Takes any region that was in use, first disposing the result that lives there, or the first of those
 * never used. The dispose may have been at any time since its result was made, and the pool may choose as
 * it likes: a dispose is seen by nobody until the region is taken. Results that stay alive: at most `limit`.
 * A rank without the choice (fewer states) takes the first free region, else that of the first result. */
#define RANK_0 (me == 0)
#ifndef CHOOSES
#define CHOOSES RANK_0
#endif
#define IN_TURN(g)         (used[g] || g == 1 || used[g - 1])
#define FIRST_FREE(g)      (!ALIVE(g) && (g < 2 || ALIVE(1)) && (g < 3 || ALIVE(2)))
#define MAY_TAKE(g, limit) ((CHOOSES && LIVE - ALIVE(g) <= (limit) && IN_TURN(g)) || (!CHOOSES \
                             && ((LIVE <= (limit) && FIRST_FREE(g)) || ((LIVE > (limit) || LIVE == REGIONS) && g == 1))))

inline take_region(g, limit) {
    if
    :: MAY_TAKE(1, limit) -> g = 1
    :: MAY_TAKE(2, limit) -> g = 2
#if REGIONS > 2
    :: MAY_TAKE(3, limit) -> g = 3
#endif
    fi;
    reach(4, shown == e && used[g] && LIVE - ALIVE(g) == 1);
    used[g] = true;
    if
    :: ALIVE(g) -> dispose(g)
    :: else
    fi
}

/* Old rows are never read again, by nobody. (Where done words are broken, that is to fail without this.) */
inline poison(g) {
#if defined(NO_DONE) || defined(DONE_BEFORE_READ) || defined(SETTLE_EARLY)
    skip
#else
    d_step {
        s = 0;
        do
        :: s < RANKS -> arena[me].region[g].row[s] = 0; s++
        :: else -> break
        od;
        s = 0
    }
#endif
}

/* The last combine that is known to be finished by all: the one before the last call that all agreed on. */
#ifdef SETTLE_EARLY
#define SETTLED (e - 1)
#else
#define SETTLED (e - 2)
#endif

/* The last combine that showed this region to peers has been read by all of them. */
inline await_readers(g) {
    reach(2, used_by[g] > 0 && used_by[g] <= SETTLED);
    reach(3, used_by[g] > SETTLED && arena[me].done[PEER(1)] < used_by[g]);
    if
    :: used_by[g] <= SETTLED
    :: used_by[g] > SETTLED ->
#ifdef NO_DONE
        skip
#else
        AWAIT_EACH_PEER(await(arena[me].done[PEER(k)], used_by[g], PEER(k)))
#endif
    fi;
    used_by[g] = 0;
    poison(g)
}

/* The owner writes the results of its experts into a region that nobody else may read or write now:
 * each row has one reader, for whom the moment of its own row counts. */
inline write_results(g, epoch_of_rows) {
    d_step {
        s = 0;
        do
        :: s < RANKS ->
            if
            :: s != me && SENDS(b, s, me) -> arena[me].region[g].row[SLOT(b, s, me)] = VALUE(epoch_of_rows, s)
            :: else
            fi;
            s++
        :: else -> break
        od;
        s = 0
    }
}

#define OUTGOING(p) arena[p].from[me].entry[e % DEPTH]

/* In one step: whoever sees one word of it too early or too late sees so in the epoch as well. */
inline write_payload(p) {
    d_step {
        OUTGOING(p).epoch = e;
        OUTGOING(p).op = OP_AT(e);
        OUTGOING(p).birth = BIRTH_AT(e);
        OUTGOING(p).region = mine;
        OUTGOING(p).counts = routing[e].to[me];
        OUTGOING(p).stamp = shown
    }
}

/* One message to every peer, zero rows included. */
inline announce() {
    k = 1;
    do
#ifdef FLAG_FIRST
    :: atomic { k < RANKS -> OUTGOING(PEER(k)).flag = e }
       atomic { write_payload(PEER(k)); k++ }
#else
    :: atomic { k < RANKS -> write_payload(PEER(k)) }
       atomic { OUTGOING(PEER(k)).flag = e; k++ }
#endif
    :: k == RANKS -> break
    od;
    k = 0
}

/* The broken variants that push to some destinations before they have seen their announcements. */
#if defined(NO_GRANT_WAIT)
#define GUESSES(p)          (OP_AT(e) != COMBINE && SENDS(b, me, p))
#define GUESS(p)            ENTRY(p, e + 1).region      /* the region of the last epoch */
#elif defined(ONLY_LOWER)
#define GUESSES(p)          (OP_AT(e) != COMBINE && p > me)
#define GUESS(p)            ENTRY(p, e).region          /* whatever lies there */
#else
#define GUESSES(p)          false
#define GUESS(p)            0
#endif

#ifdef COMBINE_AWAITS_ONLY_SENT
#define PASSES_BY(p)        (OP_AT(e) == COMBINE && !SENDS(b, me, p))
#else
#define PASSES_BY(p)        false
#endif

inline learn_grant(p) {
    if
    :: PASSES_BY(p)
    :: GUESSES(p) -> grant[p] = GUESS(p)
    :: else -> await_announcement(p)
    fi
}

/* What all ranks announced, whether or not rows go there or come from there. */
inline agree() { atomic { AWAIT_EACH_PEER(learn_grant(PEER(k))) } }

inline push_row(p) { arena[p].region[grant[p]].row[SLOT(b, me, p)] = VALUE(e, me) }
inline push() { TELL_EACH_DESTINATION(push_row(PEER(k))) }
inline signal() { TELL_EACH_DESTINATION(arena[PEER(k)].arrival[me] = e) }

inline await_arrival(p) {
    if
    :: GUESSES(p) -> await_announcement(p)
    :: else
    fi;
    if
    :: SENDS(b, p, me) -> await(arena[me].arrival[p], e, p); assert(arena[me].arrival[p] == e)     /* property b */
    :: else
    fi
}
inline receive() {
    atomic {
        AWAIT_EACH_PEER(await_arrival(PEER(k)));
        result[mine] = CALL_AT(e); plan[mine] = b; stamp[mine] = e;
        check_rows(mine)
    }
}

/* The destinations of a rank's rows, for each rank. */
#ifndef ROUTES_0
#define ROUTES_0 any_route
#endif
#ifndef ROUTES_1
#define ROUTES_1 any_route
#endif
#ifndef ROUTES_2
#define ROUTES_2 no_route
#endif
inline no_route() { skip }
inline all_routes() { routing[e].to[me] = ((1 << RANKS) - 1) - (1 << me) }
inline next_route() { routing[e].to[me] = 1 << NEXT(1) }
inline all_or_none() {
    if
    :: no_route()
    :: all_routes()
    fi
}
inline any_route() {
    if
    :: no_route()
    :: next_route()
#if RANKS > 2
    :: routing[e].to[me] = 1 << NEXT(2)
    :: all_routes()
#endif
    fi
}
inline choose_route() {
    if
    :: me == 0 -> ROUTES_0()
    :: me == 1 -> ROUTES_1()
#if RANKS > 2
    :: me == 2 -> ROUTES_2()
    :: me == 3 -> no_route()
#endif
    fi
}

inline dispatch() {
    atomic {
        if
        :: OP_AT(e) == DISPATCH -> b = e; choose_route()
        :: else -> b = BIRTH_AT(e)
        fi;
        shown = e;
        take_region(mine, MAX_LIVE - 1);
        await_readers(mine)
    }
    announce();
    agree();
#ifdef ARRIVAL_FIRST
    signal();
    push();
#else
    push();
    signal();
#endif
    receive()
}

inline pull_row(p) {
    assert(arena[p].region[grant[p]].row[SLOT(b, me, p)] == VALUE(ENTRY(p, e).stamp, me))   /* property d */
}

/* Each row is its own step, after the agreement that named its region. */
inline pull() { TELL_EACH_DESTINATION(pull_row(PEER(k)); grant[PEER(k)] = 0) }

inline tell_done() { TELL_EACH_PEER(arena[PEER(k)].done[me] = e) }

#define HOLDS(g) (result[g] == WHOSE_AT(e))

inline find_result(g) {
    if
    :: HOLDS(1) -> g = 1
    :: HOLDS(2) -> g = 2
#if REGIONS > 2
    :: HOLDS(3) -> g = 3
#endif
    :: else -> g = 0
    fi
}

/* The caller writes its results over the rows, but not once a combine has shown them to peers. */
#ifdef REWRITE_IN_PLACE
#define MAY_WRITE(g) true
#else
#define MAY_WRITE(g) (used_by[g] == 0)
#endif

/* Which ranks may keep their results elsewhere although the region of the dispatch is still theirs. */
#ifndef COPIES
#define COPIES true
#endif

/* The region in which the results lie: that of the dispatch, or a fresh one (also after a dispose). */
inline place_results() {
    atomic {
        b = BIRTH_AT(e);
        find_result(mine);
        reach(1, LIVE == MAX_LIVE && mine > 0 && used_by[mine] > 0);
        if
        :: mine != 0 ->
            if
            :: MAY_WRITE(mine) -> write_results(mine, e); stamp[mine] = e
            :: else
            fi;
            shown = stamp[mine]
        :: COPIES || mine == 0 ->
            reach(5, mine == 0);
            take_region(mine, MAX_LIVE);
            await_readers(mine);
            write_results(mine, e);
            shown = e
        fi
    }
}

inline combine() {
    place_results();
    announce();
    agree();
#ifdef DONE_BEFORE_READ
    tell_done();
    pull();
#else
    pull();
    tell_done();
#endif
    used_by[mine] = e
}

proctype rank(byte me) {
    byte e = 1;                     /* epoch */
    byte b;                         /* birth epoch of the plan in use */
    byte mine;                      /* region that this operation names, and the epoch of its rows */
    byte shown;
    byte grant[RANKS];              /* regions that peers named */
    byte result[REGIONS + 1];       /* call whose result lives in the region, 0 when free */
    byte plan[REGIONS + 1];         /* birth epoch of its plan */
    byte stamp[REGIONS + 1];        /* epoch whose rows it holds */
    bool used[REGIONS + 1];
    byte used_by[REGIONS + 1];      /* last combine that showed the region to peers */
    byte k, s, g;                   /* counters, 0 outside of their loops */

    do
    :: e <= LAST_EPOCH ->
        if
        :: arena[me].abort != 0 -> goto failed
        :: OP_AT(e) == COMBINE -> combine()
        :: OP_AT(e) != COMBINE -> dispatch()
        fi;
        atomic {
            assert(first == 0 || e < first);                /* property f: nobody gets past a call that differs */
            b = 0; mine = 0; shown = 0;
            do
            :: s < RANKS -> grant[s] = 0; s++
            :: else -> break
            od;
            s = 0;
            e++
        }
    :: else -> break
    od;

    atomic {
        g = 1;
        do
        :: g <= REGIONS && ALIVE(g) -> dispose(g); g++
        :: g <= REGIONS && !ALIVE(g) -> g++
        :: g > REGIONS -> break
        od
    }
    goto closing;

mismatched:
    raise(me, DIFFERENT);
    TELL_EACH_PEER(raise(PEER(k), DIFFERENT));
    goto failed;
closed:
    raise(me, CLOSED);
    TELL_EACH_PEER(raise(PEER(k), CLOSED));
failed:
    atomic {
        assert(first != 0);                             /* property a: no false alarm */
        assert(e == first);                             /* property f: the error comes no earlier */
#ifdef SAME_ERROR
        assert(arena[me].abort == why)                  /* property g */
#endif
    }
#ifndef CLOSE_AFTER_ERROR
    goto finished;      /* closed words could overtake the abort words of others */
#endif

closing:
    TELL_EACH_PEER(arena[PEER(k)].closed[me] = 1);
finished:
    skip
}

/* The program: any (call 1 must be a dispatch), or one of those that the checks name. */
inline call(n, what, result_of) { op[n] = what; whose[n] = result_of }

#define RESULT(j) (j < c && op[j] != COMBINE && USABLE(j))
#define HANDLE(j) (j < c && op[j] == DISPATCH && USABLE(j))
inline any_program() {
    byte c = 2;
    call(1, DISPATCH, 0);
    do
    :: c <= CALLS ->
        if
        :: call(c, DISPATCH, 0)
        :: call(c, CACHED, 1)
        :: HANDLE(2) -> call(c, CACHED, 2)
        :: HANDLE(3) -> call(c, CACHED, 3)
        :: call(c, COMBINE, 1)
        :: RESULT(2) -> call(c, COMBINE, 2)
        :: RESULT(3) -> call(c, COMBINE, 3)
        fi;
        c++
    :: else -> break
    od;
    c = 0
}

#ifndef PROGRAM
#define PROGRAM any_program
#endif

/* Two results alive, combined out of order, one of them twice. */
inline two_alive() {
    call(1, DISPATCH, 0); call(2, DISPATCH, 0);
    call(3, COMBINE, 1);  call(4, COMBINE, 2);
    call(5, COMBINE, 1);  call(6, DISPATCH, 0)
}
/* Two layers forward, then backward over their handles. */
inline training() {
    call(1, DISPATCH, 0); call(2, COMBINE, 1); call(3, DISPATCH, 0); call(4, COMBINE, 3);
    call(5, CACHED, 3);   call(6, COMBINE, 5); call(7, CACHED, 1);   call(8, COMBINE, 7)
}
/* Combines in a row, in which a rank that sent no rows pulls nothing. */
inline run_ahead() {
    call(1, DISPATCH, 0); call(2, COMBINE, 1); call(3, COMBINE, 1); call(4, COMBINE, 1); call(5, DISPATCH, 0)
}
inline alternating() {
    call(1, DISPATCH, 0); call(2, COMBINE, 1); call(3, DISPATCH, 0); call(4, COMBINE, 3); call(5, DISPATCH, 0)
}

#define SIGNATURE_AT(epoch) (OP_AT(epoch) + 4 * BIRTH_AT(epoch))

inline compare_calls() {
#if defined(SKIP) || defined(SWAP)
    byte me, e, odd;
    e = 1;
    do
    :: e <= CALLS_OF_ODD ->
        me = ODD;
        odd = SIGNATURE_AT(e);
        me = (ODD + 1) % RANKS;
        if
        :: SIGNATURE_AT(e) != odd -> first = e; why = DIFFERENT; break
        :: else -> e++
        fi
    :: else -> break
    od;
    if
    :: first == 0 && CALLS_OF_ODD < CALLS -> first = CALLS; why = CLOSED
    :: else
    fi;
    me = 0; e = 0; odd = 0
#else
    skip
#endif
}

init {
    byte r;
    atomic {
        PROGRAM();
        compare_calls();
        r = 0;
        do
        :: r < RANKS -> run rank(r); r++
        :: else -> break
        od;
        r = 0
    }
}
