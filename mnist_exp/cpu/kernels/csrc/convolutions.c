/* See convolutions.h. */
#include "convolutions.h"

#include <string.h>

#define PIXELS 2 /* adjacent ones, with sums in registers */
#ifdef __AVX512F__
#define CHANNELS 8 /* output channels at a time */
#else
#define CHANNELS 4
#endif

/* `convolve` for a row of `channels` outputs from `first`. */
INLINE void convolve_row(const Input *in, const float *weights, const float *bias, int64_t first,
                         int64_t out_channels, const float *mask, int rectify, float *out, int64_t y,
                         const int channels) {
    int64_t height = in->height - 2, width = in->width - 2;
    int first_tap = y < in->border ? in->border - y : 0, after = in->height - in->border - y;
    for (int64_t block = 0; block < width; block += PIXELS) {
        int64_t x = block + PIXELS <= width ? block : width - PIXELS; /* the last may overlap */
        Vector total[CHANNELS][PIXELS], pixels[PIXELS + 2];
        for (int o = 0; o < channels; o++)
            for (int p = 0; p < PIXELS; p++)
                total[o][p] = bias ? broadcast(bias[first + o]) : zero();
        for (int64_t i = 0; i < in->channels; i++)
            for (int dy = first_tap; dy < 3 && dy < after; dy++) {
                const float *row = in->pixels + product(i * in->height + y + dy, in->width, 1) + x * WIDTH;
                const float *weight = weights + (i * TAPS + dy * 3) * out_channels + first;
                for (int p = 0; p < PIXELS + 2; p++)
                    pixels[p] = load(row + p * WIDTH);
                for (int dx = 0; dx < 3; dx++)
                    for (int o = 0; o < channels; o++) {
                        Vector w = broadcast(weight[dx * out_channels + o]);
                        for (int p = 0; p < PIXELS; p++)
                            total[o][p] = multiply_add(w, pixels[p + dx], total[o][p]);
                    }
            }
        for (int o = 0; o < channels; o++)
            for (int p = 0; p < PIXELS; p++) {
                int64_t at = product((first + o) * height + y, width, 1) + (x + p) * WIDTH;
                Vector sum = mask ? where_positive(load(mask + at), total[o][p]) : total[o][p];
                store(out + at, rectify ? relu(sum) : sum);
            }
    }
}

/* out[o][y][x] = bias[o] + sum over i and taps of weights[i][tap][o] in[i][y + dy][x + dx]. A null bias
   is 0. With a mask, out is 0 unless the mask is > 0; with `rectify`, unless the sum is. */
void convolve(const Input *in, const float *weights, const float *bias, int64_t out_channels,
              const float *mask, int rectify, float *out) {
    for (int64_t y = 0; y < in->height - 2; y++) {
        int64_t o = 0;
        for (; o + CHANNELS <= out_channels; o += CHANNELS)
            convolve_row(in, weights, bias, o, out_channels, mask, rectify, out, y, CHANNELS);
        for (; o + 4 <= out_channels; o += 4)
            convolve_row(in, weights, bias, o, out_channels, mask, rectify, out, y, 4);
        for (; o < out_channels; o++)
            convolve_row(in, weights, bias, o, out_channels, mask, rectify, out, y, 1);
    }
}

/* Add the gradients of the weights of `channels` outputs from `first`. */
INLINE void add_weight_gradients(const Convolution *layer, const Place *place, int64_t first,
                                 const int channels) {
    int64_t stride = place->width + 2 * BORDER, plane = product(place->height + 2 * BORDER, stride, 1);
    for (int64_t i = 0; i < layer->in_channels; i++)
        for (int dy = 0; dy < 3; dy++) {
            Vector total[CHANNELS][3];
            for (int o = 0; o < channels; o++)
                for (int dx = 0; dx < 3; dx++)
                    total[o][dx] = zero();
            for (int64_t y = 0; y < place->height; y++) {
                const float *pixel = place->input + product(i * layer->height + y + dy, layer->width, 1);
                const float *delta = place->delta + first * plane + product(y + BORDER, stride, 1)
                    + BORDER * WIDTH;
                for (int64_t x = 0; x < place->width; x++)
                    for (int o = 0; o < channels; o++) {
                        Vector d = load(delta + o * plane + x * WIDTH);
                        for (int dx = 0; dx < 3; dx++)
                            total[o][dx] = multiply_add(d, load(pixel + (x + dx) * WIDTH), total[o][dx]);
                    }
            }
            for (int o = 0; o < channels; o++)
                for (int dx = 0; dx < 3; dx++) {
                    int64_t at = weight_at(layer, first + o, i, dy * 3 + dx);
                    layer->weight_gradient[at] += sum(total[o][dx]);
                }
        }
}

/* Add to the gradients of weights and biases. */
void add_gradients(const Convolution *layer, const Place *place) {
    int64_t o = 0, stride = place->width + 2 * BORDER;
    for (; o + CHANNELS <= layer->out_channels; o += CHANNELS)
        add_weight_gradients(layer, place, o, CHANNELS);
    for (; o + 4 <= layer->out_channels; o += 4)
        add_weight_gradients(layer, place, o, 4);
    for (; o < layer->out_channels; o++)
        add_weight_gradients(layer, place, o, 1);
    for (o = 0; o < layer->out_channels; o++) {
        Vector total = zero();
        for (int64_t y = 0; y < place->height; y++) {
            const float *row = place->delta
                + product(o * (place->height + 2 * BORDER) + y + BORDER, stride, 1) + BORDER * WIDTH;
            for (int64_t x = 0; x < place->width; x++)
                total = add(total, load(row + x * WIDTH));
        }
        layer->bias_gradient[o] += sum(total);
    }
}

/* out = ReLU of the largest in each 2x2 window of the sums */
void pool(const Convolution *layer, const Place *place, float *out) {
    for (int64_t o = 0; o < layer->out_channels; o++)
        for (int64_t y = 0; y < place->out_height; y++)
            for (int64_t x = 0; x < place->out_width; x++) {
                const float *window = place->sums
                    + product(o * place->height + 2 * y, place->width, 1) + 2 * x * WIDTH;
                const float *below = window + place->width * WIDTH;
                Vector a = load(window), b = load(window + WIDTH);
                Vector c = load(below), d = load(below + WIDTH);
                Vector largest = larger(larger(a, b), larger(c, d));
                largest = unless_nan(a, b, unless_nan(c, d, largest));
                int64_t at = product(o * place->out_height + y, place->out_width, 1) + x * WIDTH;
                store(out + at, relu(largest));
            }
}

/* Zero the border of a plane of deltas, and rows or columns outside all 2x2 windows. */
static void clear_border(const Convolution *layer, const Place *place, float *plane) {
    int64_t stride = place->width + 2 * BORDER, rows = product(BORDER, stride, 1);
    int64_t right = BORDER + (layer->pooled && place->width % 2);
    int64_t bottom = BORDER + (layer->pooled && place->height % 2);
    memset(plane, 0, rows * sizeof(float));
    for (int64_t y = BORDER; y < place->height + BORDER; y++) {
        memset(plane + product(y, stride, 1), 0, BORDER * WIDTH * sizeof(float));
        memset(plane + product(y + 1, stride, 1) - right * WIDTH, 0, right * WIDTH * sizeof(float));
    }
    memset(plane + product(place->height + 2 * BORDER - bottom, stride, 1), 0,
           product(bottom, stride, 1) * sizeof(float));
}

/* Route each window's delta to the first of its largest elements. */
static void route_windows(const Place *place, const float *sums, const float *from, float *delta) {
    int64_t next = place->width * WIDTH, next_delta = (place->width + 2 * BORDER) * WIDTH;
    for (int64_t y = 0; y < place->out_height; y++)
        for (int64_t x = 0; x < place->out_width; x++) {
            const float *s = sums + 2 * y * next + 2 * x * WIDTH;
            float *to = delta + 2 * y * next_delta + 2 * x * WIDTH;
            Vector rest = load(from + product(y, place->out_width, 1) + x * WIDTH);
            Vector a = load(s), b = load(s + WIDTH), c = load(s + next), d = load(s + next + WIDTH);
            Vector largest = larger(larger(a, b), larger(c, d)), here = where_equal(a, largest, rest);
            store(to, here);
            rest = subtract(rest, here);
            store(to + WIDTH, here = where_equal(b, largest, rest));
            rest = subtract(rest, here);
            store(to + next_delta, here = where_equal(c, largest, rest));
            rest = subtract(rest, here);
            store(to + next_delta + WIDTH, where_equal(d, largest, rest));
        }
}

/* Route the deltas of the activated outputs, already 0 where those are not positive, to the sums. All
   other deltas, and the border, become 0. */
void route(const Convolution *layer, const Place *place, const float *from) {
    int64_t stride = place->width + 2 * BORDER, height = place->height + 2 * BORDER;
    for (int64_t o = 0; o < layer->out_channels; o++) {
        float *plane = place->delta + product(o, height, stride);
        const float *deltas = from + product(o, place->out_height, place->out_width);
        clear_border(layer, place, plane);
        plane += product(BORDER, stride, 1) + BORDER * WIDTH;
        if (layer->pooled)
            route_windows(place, place->sums + product(o, place->height, place->width), deltas, plane);
        else
            for (int64_t y = 0; y < place->height; y++)
                memcpy(plane + product(y, stride, 1), deltas + product(y, place->width, 1),
                       product(place->width, 1, 1) * sizeof(float));
    }
}
