/* Work shared among threads, in pieces: of elements [from, to). */
#ifndef THREADS_H
#define THREADS_H

#include <stdint.h>

typedef void Work(const void *task, int64_t from, int64_t to);

enum Sleepers { LET_SLEEP, WAKE };
void share(Work *work, const void *task, int64_t count, int64_t at_once, int64_t threads,
           enum Sleepers sleepers);

/* A job that is timed to find the fastest number of threads. */
typedef struct {
    int64_t threads, started;
    int timed;
} Trial;
Trial begin_trial(int64_t threads);
void end_trial(const Trial *trial, int64_t amount);

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

#endif
