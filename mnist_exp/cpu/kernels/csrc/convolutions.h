/* Forward and backward through one layer of a convolutional network.

   WIDTH images are processed at a time, one per vector element, so each operation on a pixel is one
   vector operation without shuffles. An activation is [channels][height][width] of such vectors. */
#ifndef CONVOLUTIONS_H
#define CONVOLUTIONS_H

#include "convolutional_network.h"
#include "vectors.h"

#define BORDER 2 /* around deltas, so that the gradient of inputs is a convolution too */

/* Where a layer's numbers lie in scratch space. */
typedef struct {
    int64_t height, width;         /* of the convolution's output */
    int64_t out_height, out_width; /* after pooling */
    float *input;
    float *sums;  /* the convolution's output; later the gradient of the input */
    float *delta; /* of the sums: [out][height + 2 BORDER][width + 2 BORDER]; shared by all layers */
    float *weights, *flipped; /* [in][TAPS][out]; [out][TAPS][in], taps in reverse order */
} Place;

/* [channels][height][width] of vectors, with `border` zero rows at top and bottom */
typedef struct {
    const float *pixels;
    int64_t channels, height, width, border;
} Input;

/* Floats in a * b * c vectors. */
INLINE int64_t product(int64_t a, int64_t b, int64_t c) { return a * b * c * WIDTH; }

void convolve(const Input *in, const float *weights, const float *bias, int64_t out_channels,
              const float *mask, int rectify, float *out);
void add_gradients(const Convolution *layer, const Place *place);
void pool(const Convolution *layer, const Place *place, float *out);
void route(const Convolution *layer, const Place *place, const float *from);

#endif
