/* Linear layers in memory; all numbers are float32. */
#ifndef LINEAR_LAYERS_H
#define LINEAR_LAYERS_H

#include <stdint.h>

/* A weight matrix or bias: gain * (plus - minus), or plus where minus is null. */
typedef struct {
    const float *plus, *minus;
    float *plus_gradient, *minus_gradient;
    float gain;
} Weight;

typedef struct {
    int64_t inputs, outputs;
    Weight weight, bias; /* [outputs][inputs], [outputs] */
} LinearLayer;

#endif
