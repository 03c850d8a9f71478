/* Loss and gradients of convolutions and the linear layers after them, on one thread. */
#include <string.h>

#include "convolutions.h"
#include "interface.h"

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Address in scratch space, or null when only counting. */
static float *at(float *scratch, int64_t used) { return scratch ? scratch + used : 0; }

/* Lay out scratch space in `places` and return its size in floats. Without pooling the sums become
   the next layer's input. */
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
            place->input = at(scratch, used);
            used += of_input;
        }
        place->sums = at(scratch, used);
        used += most(of_sums, of_input);
        place->weights = at(scratch, used);
        used += PADDED(weights);
        place->flipped = at(scratch, used);
        used += PADDED(weights);
        int64_t of_delta = product(layer->out_channels, place->height + 2 * BORDER,
                                   place->width + 2 * BORDER);
        delta = most(delta, of_delta);
    }
    for (int64_t l = 0; l < count; l++)
        places[l].delta = at(scratch, used);
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

/* Run the convolutions on a group of images; return the output, in `pooled` if pooled. */
static const float *forward_pass(const Convolution *layers, const Place *places, int64_t count,
                                 float *pooled) {
    for (int64_t l = 0; l < count; l++) {
        const Convolution *layer = &layers[l];
        const Place *place = &places[l];
        Input in = {place->input, layer->in_channels, layer->height, layer->width, 0};
        convolve(&in, place->weights, layer->bias, layer->out_channels, 0, !layer->pooled, place->sums);
        if (layer->pooled)
            pool(layer, place, l < count - 1 ? places[l + 1].input : pooled);
    }
    return layers[count - 1].pooled ? pooled : places[count - 1].sums;
}

/* Add to the gradients of the convolutions, given the deltas of the output. */
static void backward_pass(const Convolution *layers, const Place *places, int64_t count,
                          const float *deltas) {
    for (int64_t l = count - 1; l >= 0; l--) {
        const Convolution *layer = &layers[l];
        const Place *place = &places[l];
        route(layer, place, deltas);
        add_gradients(layer, place);
        if (l > 0) {
            Input in = {place->delta, layer->out_channels, place->height + 2 * BORDER,
                        place->width + 2 * BORDER, BORDER};
            convolve(&in, place->flipped, 0, layer->in_channels, place->input, 0, place->sums);
            deltas = place->sums;
        }
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

/* Add to the gradients of all layers, and set the loss and the logits [samples][classes], for images
   [samples][in_channels][height][width] from a batch of `of_batch`; gradients and loss are their share
   of the batch's mean. Return 0 if a label is out of range. */
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
    *loss = 0;
    for (int64_t start = 0; start < samples; start += WIDTH) {
        int64_t here = samples - start < WIDTH ? samples - start : WIDTH;
        to_vectors(images + start * size, here, size, places[0].input);
        const float *activated = forward_pass(convolutions, places, count, vectors);
        from_vectors(activated, features, rows);
        float part;
        if (!linear_layers(own, linear_count, rows, labels + start, here, of_batch, smoothing, &part,
                           logits + start * classes, delta, rest, 1))
            return 0;
        *loss += part;
        for (int64_t l = 0; l < linear_count; l++) {
            for (int64_t i = 0; i < layers[l].inputs * layers[l].outputs; i++)
                layers[l].weight.plus_gradient[i] += own[l].weight.plus_gradient[i];
            for (int64_t i = 0; i < layers[l].outputs; i++)
                layers[l].bias.plus_gradient[i] += own[l].bias.plus_gradient[i];
        }
        to_vectors(delta, here, features, vectors);
        backward_pass(convolutions, places, count, vectors);
    }
    return 1;
}
