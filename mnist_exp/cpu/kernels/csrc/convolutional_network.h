/* A layer of a network of 3x3 convolutions without padding, each followed by optional 2x2 max pooling
   and by ReLU. */
#ifndef CONVOLUTIONAL_NETWORK_H
#define CONVOLUTIONAL_NETWORK_H

#include <stdint.h>

#define TAPS 9 /* of a kernel */

typedef struct {
    int64_t in_channels, out_channels, height, width; /* of the input */
    int64_t pooled;                 /* whether 2x2 max pooling follows */
    int64_t out_stride, in_stride, tap_stride; /* of weight and gradient, [out][in][3 * 3] */
    const float *weight, *bias;
    float *weight_gradient, *bias_gradient;
} Convolution;

static inline int64_t weight_at(const Convolution *layer, int64_t o, int64_t i, int64_t tap) {
    return o * layer->out_stride + i * layer->in_stride + tap * layer->tap_stride;
}

#endif
