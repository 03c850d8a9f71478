/* Batch normalisation, ReLU and optional 2x2 max pooling of channels-last images as one operation:
   two passes over the inputs forward, two backward, where torch needs up to four and seven.

   A row of an image is width * channels contiguous numbers; factors of channels are repeated
   over it, so that any number of channels fills the vector registers. */
#include <string.h>

#include "batch_norm.h"
#include "threads.h"

#define IMAGES 4 /* a piece of work: tens of microseconds and more */

static int64_t row_of(const Normalisation *n) { return n->width * n->channels; }

static const float *input_row(const Normalisation *n, int64_t image, int64_t y) {
    return n->x + (image * n->height + y) * row_of(n);
}

/* Where the output, or its gradient, begins for row y of the input. */
static int64_t output_row(const Normalisation *n, int64_t image, int64_t y) {
    int64_t side = 1 + n->pooled;
    return (image * n->height + y) / side * (row_of(n) / side);
}

static void repeat(const Normalisation *n, const float *of_channels, float *row) {
    for (int64_t x = 0; x < n->width; x++)
        memcpy(row + x * n->channels, of_channels, sizeof(float) * (size_t)n->channels);
}

/* sums[c] = the sum of row[c], row[c + channels], ... */
static void fold(const Normalisation *n, const float *row, float *sums) {
    memcpy(sums, row, sizeof(float) * (size_t)n->channels);
    for (int64_t x = 1; x < n->width; x++)
        for (int64_t c = 0; c < n->channels; c++)
            sums[c] += row[x * n->channels + c];
}

static void sum_images(const void *task, int64_t from, int64_t to) {
    const Normalisation *n = task;
    int64_t row = row_of(n);
    float centre[MOST_IN_ROW], sum[MOST_IN_ROW], square[MOST_IN_ROW];
    repeat(n, n->centre, centre);
    for (int64_t image = from; image < to; image++) {
        memset(sum, 0, sizeof *sum * (size_t)row);
        memset(square, 0, sizeof *square * (size_t)row);
        for (int64_t y = 0; y < n->height; y++) {
            const float *x = input_row(n, image, y);
            for (int64_t i = 0; i < row; i++) {
                float from_centre = x[i] - centre[i];
                sum[i] += from_centre;
                square[i] += from_centre * from_centre;
            }
        }
        fold(n, sum, n->sums + image * 2 * n->channels);
        fold(n, square, n->sums + (image * 2 + 1) * n->channels);
    }
}

static inline float larger(float a, float b) { return a > b ? a : b; }

static void normalise_images(const void *task, int64_t from, int64_t to) {
    const Normalisation *n = task;
    int64_t row = row_of(n), channels = n->channels;
    float scale[MOST_IN_ROW], shift[MOST_IN_ROW], of_two[MOST_IN_ROW];
    repeat(n, n->scale, scale);
    repeat(n, n->shift, shift);
    for (int64_t image = from; image < to; image++)
        for (int64_t y = 0; y < n->height; y += 1 + n->pooled) {
            const float *x = input_row(n, image, y), *below = x + row * n->pooled;
            float *out = n->out + output_row(n, image, y), *active = n->pooled ? of_two : out;
            for (int64_t i = 0; i < row; i++) {
                float z = larger(x[i] * scale[i] + shift[i], below[i] * scale[i] + shift[i]);
                active[i] = z < 0 ? 0 : z; /* keeps NaN */
            }
            for (int64_t i = 0; n->pooled && i < row; i += 2 * channels, out += channels)
                for (int64_t c = 0; c < channels; c++)
                    out[c] = larger(of_two[i + c], of_two[i + channels + c]);
        }
}

/* The gradient of a row before the ReLU; where images are pooled, of two rows, each window's all at its
   first largest number. */
static inline void before_relu(const Normalisation *n, const float *restrict x,
                               const float *restrict gradient, const float *restrict scale,
                               const float *restrict shift, float *restrict out) {
    int64_t row = row_of(n), channels = n->channels;
    for (int64_t i = 0; !n->pooled && i < row; i++)
        out[i] = x[i] * scale[i] + shift[i] <= 0 ? 0 : gradient[i];
    for (int64_t i = 0; n->pooled && i < row; i += 2 * channels, gradient += channels)
        for (int64_t c = 0; c < channels; c++) {
            int64_t left = i + c, right = left + channels;
            float a = x[left] * scale[c] + shift[c], b = x[right] * scale[c] + shift[c];
            float d = x[row + left] * scale[c] + shift[c], e = x[row + right] * scale[c] + shift[c];
            float top = larger(a, b), bottom = larger(d, e);
            float all = larger(top, bottom) <= 0 ? 0 : gradient[c];
            float above = top >= bottom ? all : 0, below = top >= bottom ? 0 : all;
            out[left] = a >= b ? above : 0;
            out[right] = a >= b ? 0 : above;
            out[row + left] = d >= e ? below : 0;
            out[row + right] = d >= e ? 0 : below;
        }
}

static void sum_gradients(const void *task, int64_t from, int64_t to) {
    const Normalisation *n = task;
    int64_t row = row_of(n);
    float scale[MOST_IN_ROW], shift[MOST_IN_ROW], centre[MOST_IN_ROW], gradient[2 * MOST_IN_ROW];
    float sum[MOST_IN_ROW], product[MOST_IN_ROW];
    repeat(n, n->scale, scale);
    repeat(n, n->shift, shift);
    repeat(n, n->centre, centre);
    for (int64_t image = from; image < to; image++) {
        memset(sum, 0, sizeof *sum * (size_t)row);
        memset(product, 0, sizeof *product * (size_t)row);
        for (int64_t y = 0; y < n->height; y += 1 + n->pooled) {
            const float *x = input_row(n, image, y);
            before_relu(n, x, n->gradient + output_row(n, image, y), scale, shift, gradient);
            for (int64_t first = 0; first <= row * n->pooled; first += row)
                for (int64_t i = 0; i < row; i++) {
                    sum[i] += gradient[first + i];
                    product[i] += gradient[first + i] * (x[first + i] - centre[i]);
                }
        }
        fold(n, sum, n->sums + image * 2 * n->channels);
        fold(n, product, n->sums + (image * 2 + 1) * n->channels);
    }
}

static void input_gradients(const void *task, int64_t from, int64_t to) {
    const Normalisation *n = task;
    int64_t row = row_of(n);
    float scale[MOST_IN_ROW], shift[MOST_IN_ROW], slope[MOST_IN_ROW], offset[MOST_IN_ROW];
    float gradient[2 * MOST_IN_ROW];
    repeat(n, n->scale, scale);
    repeat(n, n->shift, shift);
    repeat(n, n->slope, slope);
    repeat(n, n->offset, offset);
    for (int64_t image = from; image < to; image++)
        for (int64_t y = 0; y < n->height; y += 1 + n->pooled) {
            const float *x = input_row(n, image, y);
            float *out = n->out + (x - n->x);
            before_relu(n, x, n->gradient + output_row(n, image, y), scale, shift, gradient);
            for (int64_t first = 0; first <= row * n->pooled; first += row)
                for (int64_t i = 0; i < row; i++)
                    out[first + i] = gradient[first + i] * scale[i] + x[first + i] * slope[i] + offset[i];
        }
}

/* Run step `n->step` on all images. */
void batch_norm(const Normalisation *n, int64_t images, int64_t threads) {
    Work *const steps[] = {sum_images, normalise_images, sum_gradients, input_gradients};
    share(steps[n->step], n, images, IMAGES, threads, WAKE);
}
