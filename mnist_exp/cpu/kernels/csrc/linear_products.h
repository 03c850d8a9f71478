/* The products of a linear layer. */
#ifndef LINEAR_PRODUCTS_H
#define LINEAR_PRODUCTS_H

#include "array_reading.h"
#include "linear_layers.h"

/* A layer, its inputs x [samples][stride], and y [samples][outputs, padded to whole vectors]: its
   outputs or their gradients. Where the layer is read, `drives` is scratch space for each sample. */
typedef struct {
    const LinearLayer *layer;
    const float *x;
    int64_t stride, samples;
    float *y;
    Drive *drives;
} Product;

/* Set y for samples [from, to); the task is a Product. */
void forward(const void *task, int64_t from, int64_t to);

/* Set the gradients of weight or bias. */
void weight_gradients(const Product *product, int64_t threads);
void bias_gradients(const Product *product);

/* Set the gradients of the inputs [samples][stride] for samples [from, to): 0 unless x > 0. The
   stride must be whole vectors. */
void input_gradient(const Product *product, int64_t from, int64_t to, float *below);

#endif
