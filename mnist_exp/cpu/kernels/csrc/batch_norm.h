/* Batch normalisation, ReLU and optional 2x2 max pooling of channels-last images. */
#ifndef BATCH_NORM_H
#define BATCH_NORM_H

#include <stdint.h>

#define MOST_IN_ROW 2048 /* width * channels; batch_norm.py has the same */

typedef struct {
    /* 0: sums over each image of x - centre, and of its square
       1: out = pooled(max(0, x * scale + shift))
       2: sums over each image of g, and of g * (x - centre); g: the gradient before the ReLU
       3: out = g * scale + x * slope + offset */
    int64_t step;
    int64_t height, width, channels, pooled; /* both sides even where pooled, else pooled is 0 */
    const float *x;                          /* [images][height][width][channels] */
    const float *gradient;                   /* of step 1's output, and in its shape */
    const float *centre, *scale, *shift, *slope, *offset; /* [channels] */
    float *out;
    float *sums; /* [images][2][channels] */
} Normalisation;

void batch_norm(const Normalisation *n, int64_t images, int64_t threads);

#endif
