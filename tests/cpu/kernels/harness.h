/* Shared by the kernel checks: random numbers, memory, comparisons.

   Inputs and weights are small integers; the last layer's weights are scaled down by a power of 2. All
   sums up to the logits are then exact in float32, so rounding never decides a ReLU or a pooling. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stddef.h>
#include <stdint.h>

#include "interface.h"

#define MOST_LAYERS 3
#define SMOOTHING 0.1f

typedef struct {
    uint64_t random;
    uint64_t digest; /* of all results: equal for any number of threads */
    int64_t threads;
    int compare;     /* whether to compare with the naive version */
    int wrong;
    int rooms;
    void *blocks[256];
    int block_count;
} Case;

uint64_t draw(Case *c);
int64_t below(Case *c, int64_t count);

/* Memory for `count` elements, aligned to one element only, at the end of its block, so that the
   sanitizer catches any access beyond it. `release` frees all. */
void *room(Case *c, int64_t count, size_t element);
void release(Case *c);

/* Integers from -most to most in a share `density` of places, 0 elsewhere. */
float *integers(Case *c, int64_t count, float density, int64_t most);
float *uniform(Case *c, int64_t count, float width); /* around 0 */
double *zeros(Case *c, int64_t count);
double *widened(Case *c, const float *x, int64_t count);
void spoil(Case *c, float *x, int64_t count); /* NaN and infinities in some places */

void take_in(Case *c, const void *result, int64_t count, size_t element); /* hash into the digest */
void expect(Case *c, int right, const char *what);
void expect_near(Case *c, const char *what, const float *got, const double *want, int64_t count,
                 double tolerance); /* relative to the largest finite number */
void expect_floats(Case *c, const char *what, const float *got, const float *want, int64_t count);

/* Linear layers with ReLU between them; gradients are added to. */
typedef struct {
    int64_t count, sizes[MOST_LAYERS + 1];
    double *weight[MOST_LAYERS], *bias[MOST_LAYERS];
    double *weight_gradient[MOST_LAYERS], *bias_gradient[MOST_LAYERS];
    double *x_gradient; /* where x > 0, else 0 */
    double *logits, loss;
} NaiveLinear;
void naive_linear(Case *c, NaiveLinear *naive, const double *x, const int64_t *labels, int64_t samples);

void check_batch_norm(Case *c);
void check_elementwise(Case *c);
void check_orthogonalize(Case *c);
void check_step_devices(Case *c);
void check_linear_layers(Case *c);
void check_convolutional_network(Case *c);
void check_reading(Case *c);

#endif
