/* Loss and gradients of a convolutional network, in one thread: 3x3 convolutions without padding,
   each followed by 2x2 max pooling or not, and by ReLU; then linear layers.

   WIDTH images go through at a time, one in each element of a vector: all that happens to a pixel
   happens to a whole vector, and nothing has to be rearranged. An activation is
   [channels][height][width] of such vectors. */
#include <string.h>

#include "linear_layers.h"
#include "vectors.h"

#define TAPS 9   /* of a kernel */
#define BORDER 2 /* around deltas, so that the gradient of inputs is a convolution as well */
#define PIXELS 2 /* next to each other, whose sums are held in registers, */
#ifdef __AVX512F__
#define CHANNELS 8 /* for so many output channels */
#else
#define CHANNELS 4
#endif

typedef struct {
    int64_t in_channels, out_channels, height, width; /* of the input */
    int64_t pooled;                 /* whether 2x2 max pooling follows */
    int64_t out_stride, in_stride, tap_stride; /* of weight and gradient, [out][in][3 * 3] */
    const float *weight, *bias;
    float *weight_gradient, *bias_gradient;
} Convolution;

INLINE int64_t weight_at(const Convolution *layer, int64_t o, int64_t i, int64_t tap) {
    return o * layer->out_stride + i * layer->in_stride + tap * layer->tap_stride;
}

/* Where a layer's numbers lie in scratch space. */
typedef struct {
    int64_t height, width;         /* of what the convolution gives */
    int64_t out_height, out_width; /* after pooling */
    float *input;
    float *sums;  /* what the convolution gives; later the gradient of the input */
    float *delta; /* of the sums: [out][height + 2 BORDER][width + 2 BORDER]; for all layers in turn */
    float *weights, *flipped; /* [in][TAPS][out]; [out][TAPS][in], taps in reverse order */
} Place;

/* [channels][height][width] of vectors, with `border` rows at the top and the bottom that are 0 */
typedef struct {
    const float *pixels;
    int64_t channels, height, width, border;
} Input;

static int64_t product(int64_t a, int64_t b, int64_t c) { return a * b * c * WIDTH; }

/* out[o][y][x] = bias[o] + sum over i and taps of weights[i][tap][o] in[i][y + dy][x + dx], for a row
   of `channels` outputs from `first`. Without bias it is 0; with a mask, only where that is > 0. */
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

static void convolve(const Input *in, const float *weights, const float *bias, int64_t out_channels,
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

/* Add a group's gradients of the weights of `channels` outputs from `first`. */
INLINE void weight_gradients(const Convolution *layer, const Place *place, int64_t first, const int channels) {
    int64_t stride = place->width + 2 * BORDER;
    for (int64_t i = 0; i < layer->in_channels; i++)
        for (int dy = 0; dy < 3; dy++) {
            Vector total[CHANNELS][3];
            for (int o = 0; o < channels; o++)
                for (int dx = 0; dx < 3; dx++)
                    total[o][dx] = zero();
            for (int64_t y = 0; y < place->height; y++) {
                const float *pixel = place->input + product(i * layer->height + y + dy, layer->width, 1);
                const float *delta = place->delta
                    + product(first * (place->height + 2 * BORDER) + y + BORDER, stride, 1) + BORDER * WIDTH;
                for (int64_t x = 0; x < place->width; x++)
                    for (int o = 0; o < channels; o++) {
                        Vector d = load(delta + product(o * (place->height + 2 * BORDER), stride, 1) + x * WIDTH);
                        for (int dx = 0; dx < 3; dx++)
                            total[o][dx] = multiply_add(d, load(pixel + (x + dx) * WIDTH), total[o][dx]);
                    }
            }
            for (int o = 0; o < channels; o++)
                for (int dx = 0; dx < 3; dx++)
                    layer->weight_gradient[weight_at(layer, first + o, i, dy * 3 + dx)] += sum(total[o][dx]);
        }
}

static void add_gradients(const Convolution *layer, const Place *place) {
    int64_t o = 0, stride = place->width + 2 * BORDER;
    for (; o + CHANNELS <= layer->out_channels; o += CHANNELS)
        weight_gradients(layer, place, o, CHANNELS);
    for (; o + 4 <= layer->out_channels; o += 4)
        weight_gradients(layer, place, o, 4);
    for (; o < layer->out_channels; o++)
        weight_gradients(layer, place, o, 1);
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
static void pool(const Convolution *layer, const Place *place, float *out) {
    for (int64_t o = 0; o < layer->out_channels; o++)
        for (int64_t y = 0; y < place->out_height; y++)
            for (int64_t x = 0; x < place->out_width; x++) {
                const float *window = place->sums + product(o * place->height + 2 * y, place->width, 1) + 2 * x * WIDTH;
                const float *below = window + place->width * WIDTH;
                Vector largest = larger(larger(load(window), load(window + WIDTH)),
                                        larger(load(below), load(below + WIDTH)));
                store(out + product(o * place->out_height + y, place->out_width, 1) + x * WIDTH, relu(largest));
            }
}

/* Put deltas of the activated outputs, 0 where those are not positive, where they come from: in a
   2x2 window, the first of the largest. All else, the border too, becomes 0. */
static void route(const Convolution *layer, const Place *place, const float *from) {
    int64_t stride = place->width + 2 * BORDER, height = place->height + 2 * BORDER;
    int64_t next = place->width * WIDTH, next_delta = stride * WIDTH;
    for (int64_t o = 0; o < layer->out_channels; o++) {
        float *plane = place->delta + product(o, height, stride);
        memset(plane, 0, product(BORDER, stride, 1) * sizeof(float));
        for (int64_t y = 0; y < height - 2 * BORDER; y++) { /* right border of a row, left of the next */
            memset(plane + product(y + BORDER, stride, 1), 0, BORDER * WIDTH * sizeof(float));
            memset(plane + product(y + BORDER + 1, stride, 1) - BORDER * WIDTH, 0, BORDER * WIDTH * sizeof(float));
        }
        memset(plane + product(height - BORDER, stride, 1), 0, product(BORDER, stride, 1) * sizeof(float));
        plane += product(BORDER, stride, 1) + BORDER * WIDTH;
        if (!layer->pooled) {
            for (int64_t y = 0; y < place->height; y++)
                memcpy(plane + y * next_delta, from + product(o * place->height + y, place->width, 1),
                       next * sizeof(float));
            continue;
        }
        if (place->height % 2) /* what no window covers */
            memset(plane + (place->height - 1) * next_delta, 0, next * sizeof(float));
        if (place->width % 2)
            for (int64_t y = 0; y < place->height; y++)
                store(plane + y * next_delta + next - WIDTH, zero());
        for (int64_t y = 0; y < place->out_height; y++)
            for (int64_t x = 0; x < place->out_width; x++) {
                const float *sums = place->sums + product(o * place->height + 2 * y, place->width, 1) + 2 * x * WIDTH;
                float *delta = plane + 2 * y * next_delta + 2 * x * WIDTH;
                Vector rest = load(from + product(o * place->out_height + y, place->out_width, 1) + x * WIDTH);
                Vector a = load(sums), b = load(sums + WIDTH), c = load(sums + next), d = load(sums + next + WIDTH);
                Vector largest = larger(larger(a, b), larger(c, d)), here = where_equal(a, largest, rest);
                store(delta, here);
                rest = subtract(rest, here);
                store(delta + WIDTH, here = where_equal(b, largest, rest));
                rest = subtract(rest, here);
                store(delta + next_delta, here = where_equal(c, largest, rest));
                rest = subtract(rest, here);
                store(delta + next_delta + WIDTH, where_equal(d, largest, rest));
            }
    }
}

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Say where everything lies and return the floats of scratch space that it takes. Without pooling
   the sums become the next layer's input. */
static int64_t arrange(const Convolution *layers, int64_t count, float *scratch, Place *places) {
    int64_t used = 0, delta = 0;
    for (int64_t l = 0; l < count; l++) {
        const Convolution *layer = &layers[l];
        Place *place = &places[l];
        int64_t weights = layer->in_channels * layer->out_channels * TAPS;
        place->height = layer->height - 2;
        place->width = layer->width - 2;
        place->out_height = layer->pooled ? place->height / 2 : place->height;
        place->out_width = layer->pooled ? place->width / 2 : place->width;
        int64_t of_input = product(layer->in_channels, layer->height, layer->width);
        int64_t of_sums = product(layer->out_channels, place->height, place->width);
        if (l > 0 && !layers[l - 1].pooled)
            place->input = places[l - 1].sums;
        else {
            place->input = scratch + used;
            used += of_input;
        }
        place->sums = scratch + used;
        used += most(of_sums, of_input);
        place->weights = scratch + used;
        used += PADDED(weights);
        place->flipped = scratch + used;
        used += PADDED(weights);
        delta = most(delta, product(layer->out_channels, place->height + 2 * BORDER, place->width + 2 * BORDER));
    }
    for (int64_t l = 0; l < count; l++)
        places[l].delta = scratch + used;
    return used + delta;
}

static void arrange_weights(const Convolution *layer, const Place *place) {
    for (int64_t o = 0; o < layer->out_channels; o++)
        for (int64_t i = 0; i < layer->in_channels; i++)
            for (int tap = 0; tap < TAPS; tap++) {
                float weight = layer->weight[weight_at(layer, o, i, tap)];
                place->weights[(i * TAPS + tap) * layer->out_channels + o] = weight;
                place->flipped[(o * TAPS + TAPS - 1 - tap) * layer->in_channels + i] = weight;
            }
}

/* columns[k][b] = rows[b][k] for WIDTH columns b, 0 from `samples` on; `size` is whole vectors */
static void to_vectors(const float *rows, int64_t samples, int64_t size, float *columns) {
    Vector tile[WIDTH];
    for (int64_t k = 0; k < size; k += WIDTH) {
        for (int64_t b = 0; b < WIDTH; b++)
            tile[b] = b < samples ? load_first(rows + b * size + k, size - k) : zero();
        transpose(tile);
        for (int64_t i = 0; i < WIDTH && k + i < size; i++)
            store(columns + (k + i) * WIDTH, tile[i]);
    }
}

static void from_vectors(const float *columns, int64_t size, float *rows) {
    Vector tile[WIDTH];
    for (int64_t k = 0; k < size; k += WIDTH) {
        for (int64_t i = 0; i < WIDTH; i++)
            tile[i] = k + i < size ? load(columns + (k + i) * WIDTH) : zero();
        transpose(tile);
        for (int64_t b = 0; b < WIDTH; b++)
            store_first(rows + b * size + k, tile[b], size - k);
    }
}

/* Floats of scratch space that `convolutional_network` needs. */
int64_t convolutional_network_scratch(const Convolution *convolutions, int64_t count,
                                      const LinearLayer *layers, int64_t linear_count) {
    Place places[count];
    int64_t gradients = 0;
    for (int64_t l = 0; l < linear_count; l++)
        gradients += PADDED(layers[l].outputs * (layers[l].inputs + 1));
    return arrange(convolutions, count, 0, places) + gradients + 3 * layers[0].inputs * WIDTH
        + linear_layers_scratch(layers, linear_count, WIDTH);
}

/* Add to the gradients of all layers and set the logits [samples][classes], given images
   [samples][in_channels][height][width] that are some of the samples of a batch, or all; gradients
   and loss are their share of those of its mean loss. Return 0 if a label is out of range. */
int convolutional_network(const Convolution *convolutions, int64_t count, const LinearLayer *layers,
                          int64_t linear_count, const float *images, const int64_t *labels,
                          int64_t samples, int64_t of_batch, float smoothing, float *loss, float *logits,
                          float *scratch) {
    Place places[count];
    LinearLayer own[linear_count]; /* with gradients of a group alone */
    float *room = scratch + arrange(convolutions, count, scratch, places);
    int64_t features = layers[0].inputs, classes = layers[linear_count - 1].outputs;
    int64_t size = convolutions[0].in_channels * convolutions[0].height * convolutions[0].width;
    for (int64_t l = 0; l < count; l++)
        arrange_weights(&convolutions[l], &places[l]);
    for (int64_t l = 0; l < linear_count; l++) {
        own[l] = layers[l];
        own[l].weight.plus_gradient = room;
        own[l].bias.plus_gradient = room + layers[l].inputs * layers[l].outputs;
        room += PADDED(layers[l].outputs * (layers[l].inputs + 1));
    }
    float *rows = room, *delta = rows + features * WIDTH, *vectors = delta + features * WIDTH;
    float *rest = vectors + features * WIDTH;
    const Place *last = &places[count - 1];
    *loss = 0;
    for (int64_t start = 0; start < samples; start += WIDTH) {
        int64_t here = samples - start < WIDTH ? samples - start : WIDTH;
        to_vectors(images + start * size, here, size, places[0].input);
        for (int64_t l = 0; l < count; l++) {
            const Convolution *layer = &convolutions[l];
            Input in = {places[l].input, layer->in_channels, layer->height, layer->width, 0};
            convolve(&in, places[l].weights, layer->bias, layer->out_channels, 0, !layer->pooled, places[l].sums);
            if (layer->pooled)
                pool(layer, &places[l], l < count - 1 ? places[l + 1].input : vectors);
        }
        from_vectors(convolutions[count - 1].pooled ? vectors : last->sums, features, rows);
        float part;
        if (!linear_layers(own, linear_count, rows, labels + start, here, of_batch, smoothing, &part,
                           logits + start * classes, delta, rest))
            return 0;
        *loss += part;
        for (int64_t l = 0; l < linear_count; l++) {
            for (int64_t i = 0; i < layers[l].inputs * layers[l].outputs; i++)
                layers[l].weight.plus_gradient[i] += own[l].weight.plus_gradient[i];
            for (int64_t i = 0; i < layers[l].outputs; i++)
                layers[l].bias.plus_gradient[i] += own[l].bias.plus_gradient[i];
        }
        to_vectors(delta, here, features, vectors);
        route(&convolutions[count - 1], last, vectors);
        for (int64_t l = count - 1; l >= 0; l--) {
            const Convolution *layer = &convolutions[l];
            const Place *place = &places[l];
            add_gradients(layer, place);
            if (l > 0) {
                Input in = {place->delta, layer->out_channels, place->height + 2 * BORDER,
                            place->width + 2 * BORDER, BORDER};
                convolve(&in, place->flipped, 0, layer->in_channels, place->input, 0, place->sums);
                route(&convolutions[l - 1], &places[l - 1], place->sums);
            }
        }
    }
    return 1;
}
