/* 3x3 convolutions, with or without 2x2 max pooling each, followed by linear layers. */
#include <math.h>
#include <string.h>

#include "harness.h"

enum { LINEAR = 2 };
typedef struct {
    double *weight, *bias, *weight_gradient, *bias_gradient;
    double *sums, *out, *sums_delta, *in_delta; /* of one image */
    int64_t height, width, out_height, out_width;
} NaiveConvolution;

typedef struct {
    int64_t count, pixels, features;
    Convolution layers[MOST_LAYERS];
    NaiveConvolution naive[MOST_LAYERS];
    LinearLayer linear[LINEAR];
    NaiveLinear naive_linear;
} Network;

/* Index of the first maximum in a 2x2 window, or of its last NaN. */
static int64_t largest_of(const NaiveConvolution *n, int64_t channel, int64_t y, int64_t x) {
    int64_t best = -1;
    for (int dy = 0; dy < 2; dy++)
        for (int dx = 0; dx < 2; dx++) {
            int64_t at = (channel * n->height + 2 * y + dy) * n->width + 2 * x + dx;
            if (best < 0 || n->sums[at] > n->sums[best] || isnan(n->sums[at]))
                best = at;
        }
    return best;
}

/* Loop over the products in one sum: input pixel at index `at`, weight at index `w`. */
#define FOR_TAPS(layer, n, o, y, x) \
    for (int64_t i = 0; i < (layer)->in_channels; i++) \
        for (int64_t tap = 0; tap < TAPS; tap++) \
            for (int64_t at = (i * (layer)->height + (y) + tap / 3) * (layer)->width + (x) + tap % 3, \
                         w = weight_at(layer, o, i, tap), once = 1; once; once = 0)

static void go_forward(const Convolution *layer, NaiveConvolution *n, const double *in) {
    for (int64_t o = 0; o < layer->out_channels; o++) {
        for (int64_t y = 0; y < n->height; y++)
            for (int64_t x = 0; x < n->width; x++) {
                double *sum = &n->sums[(o * n->height + y) * n->width + x];
                *sum = n->bias[o];
                FOR_TAPS(layer, n, o, y, x)
                    *sum += in[at] * n->weight[w];
            }
        for (int64_t y = 0; y < n->out_height; y++)
            for (int64_t x = 0; x < n->out_width; x++) {
                int64_t to = (o * n->out_height + y) * n->out_width + x;
                double sum = n->sums[layer->pooled ? largest_of(n, o, y, x) : to];
                n->out[to] = sum < 0 ? 0 : sum;
            }
    }
}

/* Add to the gradients and set in_delta, given the deltas of the outputs. */
static void go_back(const Convolution *layer, NaiveConvolution *n, const double *in, const double *out_delta) {
    memset(n->sums_delta, 0, (size_t)(layer->out_channels * n->height * n->width) * sizeof(double));
    memset(n->in_delta, 0, (size_t)(layer->in_channels * layer->height * layer->width) * sizeof(double));
    for (int64_t o = 0; o < layer->out_channels; o++) {
        for (int64_t y = 0; y < n->out_height; y++)
            for (int64_t x = 0; x < n->out_width; x++) {
                int64_t from = (o * n->out_height + y) * n->out_width + x;
                if (!(n->out[from] <= 0))
                    n->sums_delta[layer->pooled ? largest_of(n, o, y, x) : from] = out_delta[from];
            }
        for (int64_t y = 0; y < n->height; y++)
            for (int64_t x = 0; x < n->width; x++) {
                double delta = n->sums_delta[(o * n->height + y) * n->width + x];
                n->bias_gradient[o] += delta;
                FOR_TAPS(layer, n, o, y, x) {
                    n->weight_gradient[w] += delta * in[at];
                    n->in_delta[at] += delta * n->weight[w];
                }
            }
    }
}

/* Sizes at random, until what comes out are whole vectors. */
static void choose_sizes(Case *c, Network *net) {
    do {
        int64_t channels = 1 + below(c, 3), height = 8 + below(c, 13), width = 8 + below(c, 13);
        net->pixels = channels * height * width;
        net->count = 1 + below(c, MOST_LAYERS);
        for (int64_t l = 0; l < net->count; l++) {
            int64_t out = 1 + below(c, 17), pooled = below(c, 2), last = below(c, 2);
            int64_t in_stride = last ? 1 : TAPS, tap_stride = last ? channels : 1; /* channels last */
            net->layers[l] = (Convolution){channels, out, height, width, pooled, channels * TAPS, in_stride,
                                           tap_stride, 0, 0, 0, 0};
            height = (height - 2) / (pooled ? 2 : 1);
            width = (width - 2) / (pooled ? 2 : 1);
            channels = out;
            if (height < (l < net->count - 1 ? 4 : 1) || width < (l < net->count - 1 ? 4 : 1)) {
                height = 0;
                break;
            }
        }
        net->features = channels * height * width;
    } while (!net->features || net->features % 16);
}

static int64_t weights_of(const Convolution *layer) {
    return layer->in_channels * layer->out_channels * TAPS;
}

static void make_convolutions(Case *c, Network *net) {
    for (int64_t l = 0; l < net->count; l++) {
        Convolution *layer = &net->layers[l];
        NaiveConvolution *n = &net->naive[l];
        int64_t weights = weights_of(layer), pool = layer->pooled ? 2 : 1;
        layer->weight = integers(c, weights, 1, 2);
        layer->bias = integers(c, layer->out_channels, 1, 2);
        layer->weight_gradient = integers(c, weights, 1, 2); /* gradients are added to */
        layer->bias_gradient = integers(c, layer->out_channels, 1, 2);
        n->height = layer->height - 2;
        n->width = layer->width - 2;
        n->out_height = n->height / pool;
        n->out_width = n->width / pool;
        n->weight = widened(c, layer->weight, weights);
        n->bias = widened(c, layer->bias, layer->out_channels);
        n->weight_gradient = widened(c, layer->weight_gradient, weights);
        n->bias_gradient = widened(c, layer->bias_gradient, layer->out_channels);
        n->sums = zeros(c, layer->out_channels * n->height * n->width);
        n->sums_delta = zeros(c, layer->out_channels * n->height * n->width);
        n->in_delta = zeros(c, layer->in_channels * layer->height * layer->width);
        n->out = zeros(c, layer->out_channels * n->out_height * n->out_width);
    }
}

static void make_linear_layers(Case *c, Network *net) {
    NaiveLinear *n = &net->naive_linear;
    n->count = LINEAR;
    n->sizes[0] = net->features;
    n->sizes[1] = 1 + below(c, 40);
    n->sizes[2] = 1 + below(c, 12);
    for (int64_t l = 0; l < LINEAR; l++) {
        int64_t inputs = n->sizes[l], outputs = n->sizes[l + 1], weights = inputs * outputs;
        float *weight = integers(c, weights, 1, 2), *bias = integers(c, outputs, 1, 2);
        float *weight_gradient = integers(c, weights, 1, 2), *bias_gradient = integers(c, outputs, 1, 2);
        for (int64_t i = 0; l == LINEAR - 1 && i < weights; i++)
            weight[i] *= 0x1p-14f;
        n->weight[l] = widened(c, weight, weights);
        n->bias[l] = widened(c, bias, outputs);
        n->weight_gradient[l] = widened(c, weight_gradient, weights);
        n->bias_gradient[l] = widened(c, bias_gradient, outputs);
        net->linear[l] = (LinearLayer){inputs, outputs, {weight, 0, weight_gradient, 0, 0},
                                       {bias, 0, bias_gradient, 0, 0}, 0};
    }
}

/* Output of the convolutions for one image. */
static const double *features_of(Network *net, const double *image) {
    for (int64_t l = 0; l < net->count; l++) {
        go_forward(&net->layers[l], &net->naive[l], image);
        image = net->naive[l].out;
    }
    return image;
}

static void propagate(Case *c, Network *net, const double *images, const int64_t *labels, int64_t samples) {
    double *features = zeros(c, samples * net->features);
    for (int64_t b = 0; b < samples; b++)
        memcpy(features + b * net->features, features_of(net, images + b * net->pixels),
               (size_t)net->features * sizeof *features);
    naive_linear(c, &net->naive_linear, features, labels, samples);
    for (int64_t b = 0; b < samples; b++) {
        const double *image = images + b * net->pixels;
        const double *delta = net->naive_linear.x_gradient + b * net->features;
        features_of(net, image);
        for (int64_t l = net->count - 1; l >= 0; l--) {
            go_back(&net->layers[l], &net->naive[l], l ? net->naive[l - 1].out : image, delta);
            delta = net->naive[l].in_delta;
        }
    }
}

static void expect_gradients(Case *c, const Network *net) {
    const NaiveLinear *n = &net->naive_linear;
    for (int64_t l = 0; l < net->count; l++) {
        const Convolution *layer = &net->layers[l];
        expect_near(c, "convolution's weight gradient", layer->weight_gradient,
                    net->naive[l].weight_gradient, weights_of(layer), 2e-5);
        expect_near(c, "convolution's bias gradient", layer->bias_gradient, net->naive[l].bias_gradient,
                    layer->out_channels, 2e-5);
    }
    for (int64_t l = 0; l < LINEAR; l++) {
        expect_near(c, "weight gradient", net->linear[l].weight.plus_gradient, n->weight_gradient[l],
                    n->sizes[l] * n->sizes[l + 1], 2e-5);
        expect_near(c, "bias gradient", net->linear[l].bias.plus_gradient, n->bias_gradient[l],
                    n->sizes[l + 1], 2e-5);
    }
}

static void take_in_gradients(Case *c, const Network *net) {
    for (int64_t l = 0; l < net->count; l++) {
        take_in(c, net->layers[l].weight_gradient, weights_of(&net->layers[l]), 4);
        take_in(c, net->layers[l].bias_gradient, net->layers[l].out_channels, 4);
    }
    for (int64_t l = 0; l < LINEAR; l++) {
        const LinearLayer *layer = &net->linear[l];
        take_in(c, layer->weight.plus_gradient, layer->inputs * layer->outputs, 4);
        take_in(c, layer->bias.plus_gradient, layer->outputs, 4);
    }
}

void check_convolutional_network(Case *c) {
    Network net = {0};
    choose_sizes(c, &net);
    make_convolutions(c, &net);
    make_linear_layers(c, &net);
    int64_t samples = below(c, 25), classes = net.naive_linear.sizes[LINEAR], *labels = room(c, samples, 8);
    float *images = integers(c, samples * net.pixels, 0.5f, 2), *logits = room(c, samples * classes, 4), loss;
    int spoiled = below(c, 4) == 0;
    if (spoiled)
        spoil(c, images, samples * net.pixels);
    for (int64_t i = 0; i < samples; i++)
        labels[i] = below(c, classes);
    float *scratch = room(c, convolutional_network_scratch(net.layers, net.count, net.linear, LINEAR), 4);
    expect(c, convolutional_network(net.layers, net.count, net.linear, LINEAR, images, labels, samples,
                                    samples, SMOOTHING, &loss, logits, scratch), "labels in range");
    take_in(c, &loss, !isnan(loss), 4);
    take_in(c, logits, samples * classes, 4);
    take_in_gradients(c, &net);
    if (c->compare) {
        double none = 0;
        propagate(c, &net, widened(c, images, samples * net.pixels), labels, samples);
        expect_near(c, "network's loss", &loss, samples ? &net.naive_linear.loss : &none, 1, 1e-5);
        expect_near(c, "network's logits", logits, net.naive_linear.logits, samples * classes, 1e-6);
        if (!spoiled) /* pooling routes gradients that are not finite differently */
            expect_gradients(c, &net);
    }
    if (samples) {
        labels[below(c, samples)] = below(c, 2) ? -1 : classes;
        expect(c, !convolutional_network(net.layers, net.count, net.linear, LINEAR, images, labels, samples,
                                         samples, SMOOTHING, &loss, logits, scratch),
               "a label out of range is refused");
    }
    release(c);
}
