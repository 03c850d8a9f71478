/* Persistent threads that share work in pieces of some microseconds.

   Waking a sleeping thread takes longer than many jobs, so threads spin for a while before they
   sleep. The caller never waits for them to wake: it works through the pieces itself, and awake
   threads take their share. */
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "threads.h"

#define MOST_THREADS 256
#define LOOKING_OUT 200000 /* ns of spinning; longer than the gap between two jobs of a training step */
#define LOOKS 64           /* spins between two readings of the clock */

/* On many, distant or busy cores, fewer threads are faster. So in each period some jobs try half or
   twice as many threads, and the faster number becomes the usual one. */
enum { PERIOD = 128, TRIALS = 4 };
static struct {
    atomic_int busy;
    int64_t job;         /* index in the period */
    int64_t halvings;    /* of the available threads, in usual jobs */
    int64_t step;        /* added to the halvings in the next trial */
    double usual, other; /* ns per unit of work, minimum over some jobs */
} trials = {.job = TRIALS, .step = 1, .usual = INFINITY, .other = INFINITY};

/* Pieces that one thread takes first, so that its cache holds them the next time. */
typedef struct {
    _Alignas(64) atomic_llong next;
    int64_t end;
} Range;

static struct {
    Work *work; /* written only while no thread is active, like the fields to `ranges` */
    const void *task;
    int64_t count, at_once, threads;
    unsigned arithmetic; /* the caller's MXCSR: denormals and rounding */
    Range ranges[MOST_THREADS];
    atomic_uint job; /* counter */
    atomic_int busy, open, active, sleeping;
    atomic_int halvings; /* of the number of threads, in the latest trial */
    int64_t helpers;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} team = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void do_piece(Work *work, const void *task, int64_t count, int64_t at_once, int64_t piece) {
    work(task, piece * at_once, smaller((piece + 1) * at_once, count));
}

/* Do the pieces of thread `own`, then the remaining ones of other threads. */
static void take_pieces(int64_t own) {
    for (int64_t i = 0; i < team.threads; i++) {
        Range *range = &team.ranges[(own + i) % team.threads];
        int64_t piece;
        while (atomic_load(&range->next) < range->end
               && (piece = atomic_fetch_add(&range->next, 1)) < range->end)
            do_piece(team.work, team.task, team.count, team.at_once, piece);
    }
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (int64_t)1000000000 + now.tv_nsec;
}

static void wait_for_job(unsigned last) {
    int64_t end = nanoseconds() + LOOKING_OUT;
    do
        for (int i = 0; i < LOOKS; i++) {
            if (atomic_load(&team.job) != last)
                return;
            _mm_pause();
        }
    while (nanoseconds() < end);
    pthread_mutex_lock(&team.mutex);
    atomic_fetch_add(&team.sleeping, 1);
    while (atomic_load(&team.job) == last)
        pthread_cond_wait(&team.wake, &team.mutex);
    atomic_fetch_sub(&team.sleeping, 1);
    pthread_mutex_unlock(&team.mutex);
}

static void *help(void *number) {
    for (unsigned job = 0;; ) {
        wait_for_job(job);
        atomic_fetch_add(&team.active, 1); /* from here on the job cannot change */
        job = atomic_load(&team.job);
        if (atomic_load(&team.open) && (intptr_t)number < team.threads) {
            _mm_setcsr(team.arithmetic);
            take_pieces((intptr_t)number);
        }
        atomic_fetch_sub(&team.active, 1);
    }
    return 0;
}

/* A forked process has no copies of the threads. */
static void forget_helpers(void) {
    team.helpers = 0;
    atomic_store(&team.busy, 0);
    atomic_store(&team.open, 0);
    atomic_store(&team.active, 0);
    atomic_store(&team.sleeping, 0);
    atomic_store(&trials.busy, 0);
    pthread_mutex_init(&team.mutex, 0);
    pthread_cond_init(&team.wake, 0);
}

static void forget_helpers_after_fork(void) { pthread_atfork(0, 0, forget_helpers); }

static void start_helpers(int64_t count) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (team.helpers >= count)
        return;
    pthread_once(&once, forget_helpers_after_fork);
    /* Leave signals to the program's threads, except those for faults in this one. */
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t others, before;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&others, faults[i]);
    pthread_sigmask(SIG_SETMASK, &others, &before);
    for (pthread_t thread; team.helpers < count; team.helpers++) {
        if (pthread_create(&thread, 0, help, (void *)(intptr_t)(team.helpers + 1)))
            break; /* the system's limit is reached */
        pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, 0);
}

/* Call work(task, from, to) on pieces of `at_once` elements until `count` are done, in up to `threads`
   threads. Waking sleeping threads takes about 10 us; calls too small for that pass LET_SLEEP and
   use as many threads as the latest trial. A concurrent or nested call runs in its own thread alone. */
void share(Work *work, const void *task, int64_t count, int64_t at_once, int64_t threads,
           enum Sleepers sleepers) {
    if (count < 1)
        return;
    int64_t pieces = (count + at_once - 1) / at_once;
    if (sleepers == LET_SLEEP)
        threads >>= atomic_load(&team.halvings);
    threads = smaller(threads, smaller(pieces, MOST_THREADS));
    if (threads < 2 || atomic_exchange(&team.busy, 1)) {
        for (int64_t piece = 0; piece < pieces; piece++)
            do_piece(work, task, count, at_once, piece);
        return;
    }
    start_helpers(threads - 1);
    team.work = work;
    team.task = task;
    team.count = count;
    team.at_once = at_once;
    team.threads = threads;
    team.arithmetic = _mm_getcsr() & ~(unsigned)_MM_EXCEPT_MASK;
    for (int64_t i = 0; i < threads; i++) {
        atomic_store(&team.ranges[i].next, pieces * i / threads);
        team.ranges[i].end = pieces * (i + 1) / threads;
    }
    atomic_store(&team.open, 1);
    atomic_fetch_add(&team.job, 1);
    if (sleepers == WAKE && atomic_load(&team.sleeping)) {
        pthread_mutex_lock(&team.mutex);
        pthread_cond_broadcast(&team.wake);
        pthread_mutex_unlock(&team.mutex);
    }
    take_pieces(0);
    atomic_store(&team.open, 0);
    for (int i = 1; atomic_load(&team.active); i++)
        if (i % 1024)
            _mm_pause();
        else
            sched_yield(); /* a helper may wait for this processor */
    atomic_store(&team.busy, 0);
}

/* Choose a number of threads for a job, up to `threads`, and start its clock. */
Trial begin_trial(int64_t threads) {
    if (threads < 2 || atomic_exchange(&trials.busy, 1))
        return (Trial){threads, 0, 0};
    int64_t most = 63 - __builtin_clzll((unsigned long long)threads); /* halvings, down to one thread */
    trials.halvings = smaller(trials.halvings, most);
    if (trials.halvings + trials.step < 0 || trials.halvings + trials.step > most)
        trials.step = -trials.step;
    int64_t halvings = trials.halvings + (trials.job < TRIALS ? trials.step : 0);
    atomic_store(&team.halvings, halvings);
    return (Trial){threads >> halvings, nanoseconds(), 1};
}

/* Update the usual number of threads from a finished job of `amount` units, such as samples. */
void end_trial(const Trial *trial, int64_t amount) {
    if (!trial->timed)
        return;
    double time = (double)(nanoseconds() - trial->started) / (amount ? amount : 1);
    int64_t job = trials.job++;
    if (0 < job && job < TRIALS) /* the first runs on caches filled by the usual number */
        trials.other = fmin(trials.other, time);
    if (job > PERIOD - TRIALS)
        trials.usual = fmin(trials.usual, time);
    if (job == TRIALS - 1) {
        if (trials.other < trials.usual)
            trials.halvings += trials.step;
        else
            trials.step = -trials.step;
        trials.usual = trials.other = INFINITY;
    }
    trials.job %= PERIOD;
    atomic_store(&trials.busy, 0);
}
