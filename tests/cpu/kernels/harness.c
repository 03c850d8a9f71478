/* Runs each kernel on odd sizes: against a naive version in double, with several thread counts, from
   concurrent callers and in forked processes. Exits with 1 on any mismatch.

   harness [ROUNDS [FORKS]] */
#include <immintrin.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "threads.h"

enum { SEEDS = 4 };
#define FLUSH_DENORMALS 0x8040u /* as torch.set_flush_denormal does */

static int rounds = 20, wrong;

static uint64_t run(uint64_t seed, int64_t threads, int compare) {
    Case c = {.random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1, .digest = 1, .threads = threads,
              .compare = compare};
    for (int i = 0; i < rounds; i++) {
        check_linear_layers(&c);
        check_elementwise(&c);
        check_step_devices(&c);
        if (i % 4 == 0) {
            check_batch_norm(&c);
            check_orthogonalize(&c);
            check_convolutional_network(&c);
            check_reading(&c);
        }
    }
    __atomic_fetch_add(&wrong, c.wrong, __ATOMIC_RELAXED);
    return c.digest;
}

static void expect_equal(uint64_t one, uint64_t other, const char *what, int64_t number) {
    if (one == other)
        return;
    __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
    fprintf(stderr, "WRONG: %s %lld\n", what, (long long)number);
}

/* The same bits for any number of threads, also where the caller flushes denormals. */
static void check_thread_counts(const uint64_t *digests) {
    const int64_t counts[] = {2, 3, 4, 7, 300};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (uint64_t seed = 0; seed < SEEDS; seed++)
            expect_equal(digests[seed], run(seed, counts[i], 0), "bits differ: threads", counts[i]);
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | FLUSH_DENORMALS);
    expect_equal(run(0, 1, 0), run(0, 3, 0), "bits differ where denormals are flushed: threads", 3);
    _mm_setcsr(before);
}

typedef struct {
    uint64_t seed, digest;
} Call;

static void *call(void *argument) {
    Call *one = argument;
    one->digest = run(one->seed, 3, 0);
    return 0;
}

static void check_child(uint64_t digest) {
    alarm(120);
    _exit(wrong || run(0, 1, 0) != run(0, 3, 0) || digest == 0);
}

/* The same bits for concurrent callers, and in processes forked meanwhile. */
static void check_callers(const uint64_t *digests, int forks) {
    pthread_t threads[SEEDS];
    Call calls[SEEDS];
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        calls[seed] = (Call){seed, 0};
        pthread_create(&threads[seed], 0, call, &calls[seed]);
    }
    for (int i = 0; i < forks; i++) {
        usleep(3000);
        pid_t child = fork();
        if (child == 0) {
            rounds = (int)smaller(rounds, 4);
            check_child(digests[0]);
        }
        int status = 0;
        waitpid(child, &status, 0);
        expect_equal(0, (uint64_t)status, "a forked process ended with status", status);
    }
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        pthread_join(threads[seed], 0);
        expect_equal(digests[seed], calls[seed].digest, "bits differ: concurrent call", (int64_t)seed);
    }
}

static atomic_int helped, faults_blocked, interrupts_taken, other_arithmetic;
static pthread_t caller;

static void look_around(const void *task, int64_t from, int64_t to) {
    const unsigned *arithmetic = task;
    sigset_t blocked;
    (void)from, (void)to;
    if (pthread_equal(pthread_self(), caller)) {
        usleep(100); /* leave work for the helpers */
        return;
    }
    pthread_sigmask(SIG_BLOCK, 0, &blocked);
    atomic_fetch_add(&helped, 1);
    atomic_fetch_add(&faults_blocked, sigismember(&blocked, SIGSEGV) || sigismember(&blocked, SIGABRT));
    atomic_fetch_add(&interrupts_taken, !sigismember(&blocked, SIGINT) || !sigismember(&blocked, SIGALRM));
    atomic_fetch_add(&other_arithmetic, (_mm_getcsr() & ~(unsigned)_MM_EXCEPT_MASK) != *arithmetic);
}

/* Helpers use the caller's floating-point settings, even if changed after they started. They block
   interrupts, which go to the program's threads, but not faults, which go to its handlers. */
static void check_helpers(void) {
    unsigned before = _mm_getcsr(), arithmetic = (before | FLUSH_DENORMALS) & ~(unsigned)_MM_EXCEPT_MASK;
    caller = pthread_self();
    _mm_setcsr(arithmetic);
    for (int i = 0; i < 1000 && !helped; i++)
        share(look_around, &arithmetic, 20, 1, 4, WAKE);
    _mm_setcsr(before);
    expect_equal(0, !helped, "no thread helped in jobs", 1000);
    expect_equal(0, (uint64_t)faults_blocked, "threads that block faults", faults_blocked);
    expect_equal(0, (uint64_t)interrupts_taken, "threads that take interrupts", interrupts_taken);
    expect_equal(0, (uint64_t)other_arithmetic, "threads with another arithmetic", other_arithmetic);
}

static void stage(const char *name) {
    printf("%s: %d wrong\n", name, wrong);
    fflush(stdout);
}

int main(int argc, char **argv) {
    uint64_t digests[SEEDS], all = 0;
    rounds = argc > 1 ? atoi(argv[1]) : rounds;
    if (interface() != INTERFACE)
        return 1;
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        all = all * 31 + (digests[seed] = run(seed, 1, 1));
    printf("digest %016llx\n", (unsigned long long)all);
    stage("against the naive version");
    check_thread_counts(digests);
    stage("thread counts");
    check_callers(digests, argc > 2 ? atoi(argv[2]) : 3);
    stage("concurrent calls and forks");
    check_helpers();
    stage("threads that help");
    return wrong != 0;
}
