/* Work shared among threads. */
#ifndef THREADS_H
#define THREADS_H

#include <stdint.h>

typedef void Work(const void *task, int64_t piece);

void share(Work *work, const void *task, int64_t pieces, int64_t threads, int wake);

#endif
