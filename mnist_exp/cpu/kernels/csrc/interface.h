/* Functions called from Python; interface.py declares them to ctypes. */
#ifndef INTERFACE_H
#define INTERFACE_H

#include <stdint.h>

#include "batch_norm.h"
#include "convolutional_network.h"
#include "linear_layers.h"
#include "step_devices.h"

#define INTERFACE 5 /* version; increase it here and in interface.py when a signature or struct changes */

int64_t interface(void);

int pixels_to_inputs(const uint8_t *pixels, int64_t images, int64_t size, const int64_t *indices,
                     int64_t count, float scale, float shift, float *out, int64_t threads);
void asymmetric_sgd(float *weight, const float *gradient, float *velocity, int64_t count, float momentum,
                    float minus_rate, float ratio, int64_t threads);
void round_nearest(float *w, int64_t count, float offset, float slope, float W_min, float W_max,
                   float step, int64_t threads);
void round_stochastic(float *w, int64_t count, float offset, float slope, float W_min, float W_max,
                      float step, uint64_t *lanes, float lowest, int64_t threads);
void round_counting_moves(float *w, float *before, int32_t *moves, int keeps, int64_t count, float offset,
                          float slope, float W_min, float W_max, float step, uint64_t *lanes,
                          float lowest, int64_t threads);
int64_t nonzero(const float *x, int64_t count);
int64_t correct_predictions(const float *logits, const int64_t *labels, int64_t samples, int64_t classes);
float norm(const float *x, int64_t count, int64_t threads);
void orthogonalize(float *x, int64_t rows, int64_t columns, int64_t steps, int64_t at_once, float a,
                   float b, float c);

int64_t linear_layers_scratch(const LinearLayer *layers, int64_t count, int64_t samples);
int linear_layers(const LinearLayer *layers, int64_t count, const float *x, const int64_t *labels,
                  int64_t samples, int64_t of_batch, float smoothing, float *loss, float *logits,
                  float *x_gradient, float *scratch, int64_t threads);
void read_product(const LinearLayer *layer, const float *x, int64_t samples, float *out, float *scratch,
                  int64_t threads);
void normals(float *out, int64_t count, uint64_t seed, int64_t threads);

int64_t convolutional_network_scratch(const Convolution *convolutions, int64_t count,
                                      const LinearLayer *layers, int64_t linear_count);
int convolutional_network(const Convolution *convolutions, int64_t count, const LinearLayer *layers,
                          int64_t linear_count, const float *images, const int64_t *labels,
                          int64_t samples, int64_t of_batch, float smoothing, float *loss, float *logits,
                          float *scratch);

#endif
