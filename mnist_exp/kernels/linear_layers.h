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

int64_t linear_layers_scratch(const LinearLayer *layers, int64_t count, int64_t samples);
int linear_layers(const LinearLayer *layers, int64_t count, const float *x, const int64_t *labels,
                  int64_t samples, int64_t of_batch, float smoothing, float *loss, float *logits,
                  float *x_gradient, float *scratch, int64_t threads);

#endif
