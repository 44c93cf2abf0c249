/*
 * How the ranks of a group agree on who is lost, and on the next membership. README.md says what is modelled, what is
 * not, and what each -D of a broken variant breaks.
 *
 * What a rank does about one event (a frame, the end of a link, a decision that is due, a call) is one step: receiving
 * leaves the others' queues alone, and who sees a frame too early may read it late. What can be seen of a crash in
 * between is how many of the peers had been told, so it may come before each of these frames.
 */

#ifndef RANKS
#define RANKS 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#define LONGEST 12              /* frames that wait on a link */

#define LOST    1
#define SETTLED 2
#define VOTE    3
#define COMMIT  4
#define FENCED  5
#define NEXT    6               /* any frame of the next membership */

/* Sets of ranks, a bit each. */
#define ALL             ((1 << RANKS) - 1)
#define BIT(r)          (1 << (r))
#define HAS(set, r)     (((set) >> (r)) & 1)
#define LOWEST(set)     (((set) & 1) -> 0 : (((set) & 2) -> 1 : (((set) & 4) -> 2 : 3)))
#define NOTHING         128     /* no set: nothing heard, nothing decided */

chan link[RANKS * RANKS] = [LONGEST] of { byte, byte };
#define LINK(from, to)  link[(from) * RANKS + (to)]

byte crashes;                   /* that may still come */
byte evictors;                  /* ranks whose callers are yet to evict EVICTED, at any time: before or after they vote */
byte dead;
byte fenced;

/* Ghosts: what the calls of a rank failed with first, and the ranks that its next membership leaves out. They stay when it dies. */
byte first[RANKS] = NOTHING;
byte left[RANKS] = NOTHING;
byte settled[RANKS];

/* The run in which nothing is settled, in which nobody votes, and in which callers evict EVICTED, which lives. */
#ifdef NO_SETTLING
#define SETTLES false
#else
#define SETTLES true
#endif
#ifdef NO_VOTING
#define VOTES false
#else
#define VOTES true
#endif
#ifdef CALLS_ON_LOSS            /* where a rank calls for the next membership at any time there are too many states */
#define MAY_CALL (out != 0 || (crashes + dead) == 0)
#else
#define MAY_CALL true
#endif
#ifndef EVICTED
#define EVICTED RANKS
#endif

/* A state that the correct model must reach, so that its properties are not empty (-DREACH=n). */
#ifndef REACH
#define REACH 0
#endif
inline reach(n, condition) { assert(REACH != n || !(condition)) }

/* One frame to each of these ranks, in their order; the rank may die before any of them. */
inline tell(to, kind, set) {
    todo = to;
    do
    :: todo != 0 ->
        k = LOWEST(todo);
        todo = todo & ~BIT(k);
        if
        :: HAS(dead | fenced, k)
        :: else -> assert(nfull(LINK(me, k))); LINK(me, k)!kind, set
        fi
    :: todo != 0 && crashes > 0 -> goto dying
    :: todo == 0 -> break
    od;
    k = 0
}

#define LIVE            (ALL & ~BIT(me) & ~out)

/* Whom this rank would leave out: whom it lost, whom its caller evicts, and whom peers vote out, but for itself. */
#define WANT(ranks)     wanted = wanted | (ranks)

/* Sets grow: what a peer said is as good as nothing once this rank has counted out another rank, or the peer. */
#define IS_STALE(p, set, own)   (HAS(own, p) || ((own) & ~(set)) != 0)

/* A lost rank is not read any more. The link of one that is gone, or that went on without this rank, ends after its frames. */
#define READS(p)        (p != me && !HAS(out | ignored, p))
#define HEARS(p)        (READS(p) && nempty(LINK(p, me)))
#define ENDS(p)         (READS(p) && empty(LINK(p, me)) && (HAS(dead, p) || (left[p] != NOTHING && HAS(left[p], me))))

/* Frames that say nothing new are read as soon as they come to be next: nobody can tell. */
#define SAYS_NOTHING(p) ((kind == LOST && (set & ~out) == 0 && (!SETTLES || IS_STALE(p, set, out)))  \
                          || (kind == VOTE && (HAS(set, me) || (set & ~wanted) == 0) && IS_STALE(p, set, wanted)))
inline skim() {
    d_step {
        do
        :: k < RANKS ->
            do
            :: READS(k) && nempty(LINK(k, me)) ->
                LINK(k, me)?<kind, set>;
                if
                :: SAYS_NOTHING(k) -> LINK(k, me)?_, _
                :: !SAYS_NOTHING(k) -> break
                fi
            :: !READS(k) || empty(LINK(k, me)) -> break
            od;
            heard[k] = ((!SETTLES || IS_STALE(k, heard[k], out)) -> 0 : heard[k]);
            vote_of[k] = (IS_STALE(k, vote_of[k], wanted) -> NOTHING : vote_of[k]);
            k++
        :: k == RANKS -> break
        od;
        k = 0; kind = 0; set = 0
    }
}

/* Who is voted out may still go on with earlier votes. It is not followed there. */
#ifdef FOLLOW_EVICTED
#define FOLLOWS(p)      true
#else
#define FOLLOWS(p)      (!HAS(vote, p))
#endif

inline hear(p) {
    LINK(p, me)?kind, set;
    assert(kind != NEXT);                                           /* property e */
    if
    :: kind == LOST -> heard[p] = set; due = due | (set & ~out & ~BIT(me))
    :: kind == SETTLED ->
        due = due | (set & ~out & ~BIT(me));
        if
        :: (set & ~settled[me]) != 0 -> assert(conclusion == 0); conclusion = set
        :: else
        fi
    :: kind == VOTE ->
        vote_of[p] = set;
#ifndef NO_CLAIMS
        WANT((HAS(set, me) -> 0 : set))
#else
        skip
#endif
    :: kind == COMMIT ->
#ifdef READ_PAST_COMMIT
        if
        :: nempty(LINK(p, me)) -> LINK(p, me)?kind, _; assert(kind != NEXT)
        :: true
        fi;
#endif
        if
        :: FOLLOWS(p) ->
            assert(voted && !HAS(set, me));                         /* property b */
            goto committing
        :: else -> ignored = ignored | BIT(p)
        fi
    :: kind == FENCED -> goto fencing
    fi;
    kind = 0; set = 0
}

/* Takes a rank for lost and tells all. */
inline suspect(p) {
    out = out | BIT(p);
    WANT(BIT(p));
    due = due & ~BIT(p);
#ifndef NO_LOST
    tell(LIVE, LOST, out)
#endif
}

/* Passes a decision on, then lets calls fail. */
inline fail_calls(lost) {
    if
    :: first[me] == NOTHING ->
        d_step {
            reach(1, (lost & (lost - 1)) != 0);
            do
            :: k < RANKS -> assert(first[k] == NOTHING || first[k] == lost); k++       /* property a */
            :: else -> break
            od;
            k = 0;
            first[me] = lost
        }
    :: else -> reach(2, true)
    fi
}
inline conclude(lost, passes_on) {
    settled[me] = settled[me] | lost;
#ifdef CONCLUDE_BEFORE_TELLING
    fail_calls(lost);
#endif
    if
    :: passes_on -> tell(LIVE, SETTLED, lost)
    :: else
    fi;
    fail_calls(lost)
}

#ifdef NO_SETTLED_RELAY
#define PASSES_ON false
#else
#define PASSES_ON true
#endif

/* Whom peers report lost is lost once what it had sent is read. Then what was heard to be settled is. */
inline follow_reports() {
    do
    :: due != 0 ->
        p = LOWEST(due);
#ifndef NO_LAST_WORDS
        if
        :: HEARS(p) -> hear(p)
        :: !READS(p) || empty(LINK(p, me)) -> suspect(p)
        fi
#else
        suspect(p)
#endif
    :: due == 0 && conclusion != 0 -> conclude(conclusion, PASSES_ON); conclusion = 0
    :: due == 0 && conclusion == 0 -> break
    od;
    p = 0
}

/* All that this rank does not count out have said the same. */
#define SAYS(p, what, set)  (p == me || HAS(set, p) || what[p] == set)
#if RANKS == 3
#define ALL_SAY(what, set)  (SAYS(0, what, set) && SAYS(1, what, set) && SAYS(2, what, set))
#else
#define ALL_SAY(what, set)  (SAYS(0, what, set) && SAYS(1, what, set) && SAYS(2, what, set) && SAYS(3, what, set))
#endif

#define EVICTION        ((EVICTED < RANKS) -> BIT(EVICTED) : 0)
#ifdef NO_FENCE
#define TOLD            (LIVE & ~set)
#else
#define TOLD            LIVE
#endif
#define COMMIT_OR_FENCED (HAS(set, k) -> FENCED : COMMIT)

#ifdef ANYONE_DECIDES
#define DECIDES(set)    true
#else
#define DECIDES(set)    (LOWEST(ALL & ~(set)) == me)
#endif
#ifdef DECIDE_WITHOUT_ALL
#define AGREED(what, set)   DECIDES(set)
#else
#define AGREED(what, set)   (DECIDES(set) && ALL_SAY(what, set))
#endif

/* The evicted rank went on with votes that were to keep it, before it learned that the others leave it out. It is fenced there. */
#define WENT_ASTRAY(r, others)  ((r) == EVICTED && HAS(others, EVICTED))

/* The next membership begins. */
inline begin_next() {
    assert((set & ~(dead | EVICTION)) == 0);                                            /* property d */
    d_step {
        reach(3, !proposes && HAS(dead, LOWEST(ALL & ~set)));
        reach(4, (dead & ~set & ~BIT(LOWEST(ALL & ~set))) != 0);
        reach(5, set == (ALL & ~BIT(me)));
        reach(8, me != EVICTED && HAS(wanted & ~set, EVICTED));
        do
        :: k < RANKS ->
            assert(left[k] == NOTHING || left[k] == set || WENT_ASTRAY(me, left[k]) || WENT_ASTRAY(k, set));    /* property b */
            k++
        :: else -> break
        od;
        k = 0;
        left[me] = set
    }
}

inline greet_members() {
    d_step {
        do
        :: k < RANKS ->
            if
            :: k == me || HAS(set | dead | fenced, k)
            :: else -> LINK(me, k)!NEXT, 0
            fi;
            k++
        :: else -> break
        od;
        k = 0
    }
}

/* Of what still comes from the last membership only a fence matters, and only to a rank that others evict. */
#ifdef BELATED_FENCE_DROPPED
#define AWAITS_FENCE    false
#else
#define AWAITS_FENCE    (me == EVICTED)
#endif

/* This rank is done with the membership, and with what it has not read. */
inline forget(unread) {
    d_step {
        k = 0;
        do
        :: k < RANKS ->
            do
            :: unread && nempty(LINK(k, me)) -> LINK(k, me)?_, _
            :: !(unread) || empty(LINK(k, me)) -> break
            od;
            heard[k] = 0; vote_of[k] = 0;
            k++
        :: k == RANKS -> break
        od;
        evictors = evictors & ~BIT(me);
        out = 0; ignored = 0; wanted = 0; vote = 0; voted = false; proposes = false; due = 0; conclusion = 0;
        p = 0; k = 0; todo = 0; kind = 0; set = 0
    }
}

proctype rank(byte me) {
    byte out;                       /* taken for lost */
    byte ignored;                   /* went on, and not followed */
    byte heard[RANKS];              /* whom the others take for lost */
    byte wanted;                    /* to be left out */
    byte vote;                      /* the same, as last told */
    byte vote_of[RANKS] = NOTHING;
    bool voted;
    bool proposes;
    byte due, conclusion;           /* heard, and still to be followed */
    byte p, k, todo, kind, set;     /* 0 between the steps */

end:do
    :: atomic {
        if
        :: HEARS(0) -> p = 0; hear(p)
        :: HEARS(1) -> p = 1; hear(p)
        :: HEARS(2) -> p = 2; hear(p)
#if RANKS > 3
        :: HEARS(3) -> p = 3; hear(p)
#endif
        :: ENDS(0) -> due = BIT(0)
        :: ENDS(1) -> due = BIT(1)
        :: ENDS(2) -> due = BIT(2)
#if RANKS > 3
        :: ENDS(3) -> due = BIT(3)
#endif
        :: SETTLES && out != settled[me] && AGREED(heard, out) -> conclude(out, true)
        :: VOTES && !voted && MAY_CALL ->
            voted = true;
            vote = wanted;
            tell(LIVE & ~vote, VOTE, vote)
        :: HAS(evictors, me) -> evictors = evictors & ~BIT(me); WANT(EVICTION)
        :: voted && vote != wanted -> vote = wanted; tell(LIVE & ~vote, VOTE, vote)
        :: voted && vote == wanted && AGREED(vote_of, vote) -> proposes = true; set = vote; goto committing
        :: crashes > 0 -> goto dying
        fi;
        follow_reports();
        skim()
       }
    od;

committing:
    atomic {
        due = 0; conclusion = 0;
#ifdef COMMIT_BEFORE_TELLING
        begin_next();
#endif
#ifdef NO_RELAY
        if
        :: proposes -> tell(LIVE, COMMIT_OR_FENCED, set)
        :: else
        fi;
#else
        tell(TOLD, COMMIT_OR_FENCED, set);
#endif
        begin_next();
#ifndef NO_RELAY
        greet_members();        /* without the relay this would come before the commit, and hide what else goes wrong */
#endif
        forget(!AWAITS_FENCE);
        if
        :: AWAITS_FENCE
        :: else -> goto gone
        fi
    }
endbelated:do
    :: atomic {
        if
        :: nempty(LINK(0, me)) -> p = 0
        :: nempty(LINK(1, me)) -> p = 1
        :: nempty(LINK(2, me)) -> p = 2
#if RANKS > 3
        :: nempty(LINK(3, me)) -> p = 3
#endif
        :: crashes > 0 -> goto dying
        fi;
        LINK(p, me)?kind, _;
        if
        :: kind == FENCED -> goto fencing
        :: else
        fi;
        p = 0; kind = 0
       }
    od;

fencing:
    atomic {
        reach(6, voted);
        reach(7, HAS(dead, LOWEST(ALL & ~BIT(me))));
        reach(9, left[me] != NOTHING);
        fenced = fenced | BIT(me);
        forget(true);
        goto gone
    }
dying:
    atomic {
        crashes--;
        dead = dead | BIT(me);
        forget(true)
    }
gone:
    skip
}

/* When nothing more happens. */
proctype ends() {
    byte r, k;
    timeout ->
    d_step {
        do
        :: r < RANKS ->
            if
            :: HAS(dead, r)
            :: else ->
                assert(VOTES || settled[r] == dead);                                    /* property a: all are told */
                assert(!VOTES || left[r] != NOTHING || HAS(fenced, r));                 /* property c */
                assert(!HAS(fenced, r) || r == EVICTED);                                /* property d */
                k = 0;
                do
                :: k < RANKS ->
                    assert(left[k] == NOTHING || !HAS(left[k], r) || HAS(fenced, r));   /* property d */
                    k++
                :: else -> break
                od
            fi;
            r++
        :: else -> break
        od
    }
}

init {
    byte r;
    atomic {
        do
        :: crashes < CRASHES -> crashes++
        :: true -> break
        od;
        do
        :: r < RANKS ->
            if
            :: EVICTED < RANKS && r != EVICTED -> evictors = evictors | BIT(r)
            :: true
            fi;
            run rank(r);
            r++
        :: else -> break
        od;
        run ends()
    }
}
