/* Loss and gradients of linear layers with ReLU between them.

   Inputs that are 0 cost nothing: four in five pixels of MNIST, and half of what comes out of a
   ReLU. Matrices are float32 and row-major. What is made here has rows padded to whole vectors, the
   padding being 0. */
#include <math.h>
#include <string.h>

#include "linear_layers.h"
#include "threads.h"
#include "vectors.h"

#define CHUNK 80    /* inputs of a block of transposed weights, which stays in the first-level cache */
#define SAMPLES 128 /* of a block of transposed inputs */

/* `rows` vectors of values, a row of the matrix apart, of which `count` elements are there. */
INLINE void load_values(const Weight *weight, int64_t at, int64_t stride, int64_t rows, int64_t count,
                        Vector *values) {
    for (int64_t i = 0; i < rows; i++)
        values[i] = load_first(weight->plus + at + i * stride, count);
    if (weight->minus)
        for (int64_t i = 0; i < rows; i++) {
            Vector minus = load_first(weight->minus + at + i * stride, count);
            values[i] = multiply(broadcast(weight->gain), subtract(values[i], minus));
        }
}

/* Likewise, given the gradients of the values. */
INLINE void set_gradients(const Weight *weight, int64_t at, int64_t stride, int64_t rows, int64_t count,
                          Vector *gradients) {
    if (weight->minus)
        for (int64_t i = 0; i < rows; i++) {
            gradients[i] = multiply(broadcast(weight->gain), gradients[i]);
            store_first(weight->minus_gradient + at + i * stride, subtract(zero(), gradients[i]), count);
        }
    for (int64_t i = 0; i < rows; i++)
        store_first(weight->plus_gradient + at + i * stride, gradients[i], count);
}

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* sums[0:vectors] += value * row of each element that is not 0 */
INLINE void add_rows(const float *rows, int64_t stride, const float *values, const int32_t *positions,
                     int64_t count, float *sums, const int vectors) {
    Vector total[MAX_VECTORS];
    for (int j = 0; j < vectors; j++)
        total[j] = load(sums + j * WIDTH);
    for (int64_t i = 0; i < count; i++) {
        const float *row = rows + positions[i] * stride;
        Vector value = broadcast(values[i]);
        for (int j = 0; j < vectors; j++)
            total[j] = multiply_add(value, load(row + j * WIDTH), total[j]);
    }
    for (int j = 0; j < vectors; j++)
        store(sums + j * WIDTH, total[j]);
}

/* Call a kernel with the number of vectors as a constant, so that sums stay in registers. */
#define CASE(n, call) case n: { enum { VECTORS = n }; call; break; }
#define WITH_VECTORS(count, call) \
    switch (count) { \
        CASE(1, call) CASE(2, call) CASE(3, call) CASE(4, call) CASE(5, call) CASE(6, call) \
        CASE(7, call) CASE(8, call) MORE_CASES(call) \
    }
#if MAX_VECTORS > 8
#define MORE_CASES(call) CASE(9, call) CASE(10, call) CASE(11, call) CASE(12, call) CASE(13, call)
#else
#define MORE_CASES(call)
#endif

/* block[k][o] = weight[o][k] for so many outputs and inputs; 0 in the padding */
static void transpose_weights(const LinearLayer *layer, int64_t from_output, int64_t outputs,
                              int64_t from_input, int64_t inputs, float *block) {
    int64_t width = PADDED(outputs), stride = layer->inputs;
    Vector rows[WIDTH];
    for (int64_t k = 0; k < inputs; k += WIDTH)
        for (int64_t o = 0; o < width; o += WIDTH) {
            int64_t at = (from_output + o) * stride + from_input + k;
            if (outputs - o >= WIDTH)
                load_values(&layer->weight, at, stride, WIDTH, inputs - k, rows);
            else {
                for (int i = 0; i < WIDTH; i++)
                    rows[i] = zero();
                load_values(&layer->weight, at, stride, outputs - o, inputs - k, rows);
            }
            transpose(rows);
            for (int64_t i = 0; i < WIDTH && k + i < inputs; i++)
                store(block + (k + i) * width + o, rows[i]);
        }
}

/* y[b][o] = bias[o] + sum over k of x[b][k] weight[o][k], for a block of at most MAX_VECTORS */
INLINE void forward_block(const LinearLayer *layer, int64_t from, const float *x, int64_t x_stride,
                          int64_t samples, float background, float *y, int64_t y_stride,
                          const int vectors) {
    ALIGNED float block[CHUNK * MAX_VECTORS * WIDTH], values[CHUNK + WIDTH];
    ALIGNED int32_t positions[CHUNK + WIDTH];
    int64_t outputs = smaller(layer->outputs - from, vectors * WIDTH);
    for (int j = 0; j < vectors; j++) {
        Vector bias;
        load_values(&layer->bias, from + j * WIDTH, 0, 1, outputs - j * WIDTH, &bias);
        for (int64_t b = 0; b < samples; b++)
            store(y + b * y_stride + j * WIDTH, bias);
    }
    for (int64_t k = 0; k < layer->inputs; k += CHUNK) {
        int64_t inputs = smaller(layer->inputs - k, CHUNK);
        transpose_weights(layer, from, outputs, k, inputs, block);
        for (int64_t b = 0; b < samples; b++) {
            int64_t count = nonzeros(x + b * x_stride + k, inputs, background, values, positions);
            add_rows(block, vectors * WIDTH, values, positions, count, y + b * y_stride, vectors);
        }
    }
}

static void forward(const LinearLayer *layer, const float *x, int64_t x_stride, int64_t samples,
                    float background, float *y) {
    int64_t width = PADDED(layer->outputs);
    for (int64_t o = 0; o < width; o += MAX_VECTORS * WIDTH) {
        int64_t vectors = smaller((width - o) / WIDTH, MAX_VECTORS);
        WITH_VECTORS(vectors, forward_block(layer, o, x, x_stride, samples, background, y + o, width,
                                            VECTORS))
    }
}

/* columns[k][b] = x[b][k] for WIDTH columns; 0 in the padding */
INLINE void transpose_inputs(const float *x, int64_t stride, int64_t samples, int64_t inputs,
                             float columns[WIDTH][SAMPLES]) {
    Vector rows[WIDTH];
    for (int64_t b = 0; b < samples; b += WIDTH) {
        for (int i = 0; i < WIDTH; i++) {
            rows[i] = b + i < samples ? load_first(x + (b + i) * stride, inputs) : zero();
            __builtin_prefetch(x + (b + i) * stride + WIDTH); /* rows lie far apart */
        }
        transpose(rows);
        for (int i = 0; i < WIDTH; i++)
            store(&columns[i][b], rows[i]);
    }
}

/* weight_gradient[o][k] = sum over b of delta[b][o] x[b][k], for some inputs, `to` or all that there
   are, and for a block of outputs */
INLINE void weight_gradient_block(const LinearLayer *layer, int64_t output, int64_t from, int64_t to,
                                  const float *x, int64_t x_stride, int64_t samples, float background,
                                  const float *delta, int64_t stride, const int vectors) {
    ALIGNED float sums[WIDTH][MAX_VECTORS * WIDTH], columns[WIDTH][SAMPLES], values[SAMPLES + WIDTH];
    ALIGNED int32_t positions[SAMPLES + WIDTH];
    Vector rows[WIDTH];
    int64_t outputs = smaller(layer->outputs - output, vectors * WIDTH);
    for (int64_t k = from; k < to; k += WIDTH) {
        int64_t inputs = smaller(to - k, WIDTH);
        memset(sums, 0, sizeof sums);
        for (int64_t b = 0; b < samples; b += SAMPLES) {
            int64_t here = smaller(samples - b, SAMPLES);
            transpose_inputs(x + b * x_stride + k, x_stride, here, inputs, columns);
            for (int64_t i = 0; i < inputs; i++) {
                int64_t count = nonzeros(columns[i], here, background, values, positions);
                add_rows(delta + b * stride + output, stride, values, positions, count, sums[i], vectors);
            }
        }
        for (int64_t o = 0; o < outputs; o += WIDTH) {
            for (int i = 0; i < WIDTH; i++)
                rows[i] = load(&sums[i][o]);
            transpose(rows);
            int64_t at = (output + o) * layer->inputs + k;
            set_gradients(&layer->weight, at, layer->inputs, smaller(outputs - o, WIDTH), inputs, rows);
        }
    }
}

/* Set the gradients of the weights of some inputs, given delta [samples][outputs, padded]. */
static void weight_gradients(const LinearLayer *layer, int64_t from, int64_t to, const float *x,
                             int64_t x_stride, int64_t samples, float background, const float *delta) {
    int64_t width = PADDED(layer->outputs);
    for (int64_t o = 0; o < width; o += MAX_VECTORS * WIDTH) {
        int64_t vectors = smaller((width - o) / WIDTH, MAX_VECTORS);
        WITH_VECTORS(vectors, weight_gradient_block(layer, o, from, to, x, x_stride, samples, background,
                                                    delta, width, VECTORS))
    }
}

static void bias_gradients(const LinearLayer *layer, int64_t samples, const float *delta) {
    int64_t width = PADDED(layer->outputs);
    for (int64_t o = 0; o < layer->outputs; o += WIDTH) {
        Vector total = zero();
        for (int64_t b = 0; b < samples; b++)
            total = add(total, load(delta + b * width + o));
        set_gradients(&layer->bias, o, 0, 1, layer->outputs - o, &total);
    }
}

/* below[b][k] = sum over o of delta[b][o] weight[o][k] where x[b][k] > 0, else 0 */
INLINE void input_gradient_block(const LinearLayer *layer, int64_t from, const float *x,
                                 int64_t samples, const float *delta, float *below, const int vectors) {
    int64_t width = PADDED(layer->outputs), stride = PADDED(layer->inputs);
    for (int64_t b = 0; b < samples; b++) {
        Vector total[MAX_VECTORS];
        for (int j = 0; j < vectors; j++)
            total[j] = zero();
        for (int64_t o = 0; o < layer->outputs; o++) {
            Vector value = broadcast(delta[b * width + o]);
            for (int j = 0; j < vectors; j++) {
                int64_t k = from + j * WIDTH;
                Vector weight;
                load_values(&layer->weight, o * layer->inputs + k, 0, 1, layer->inputs - k, &weight);
                total[j] = multiply_add(value, weight, total[j]);
            }
        }
        for (int j = 0; j < vectors; j++) {
            int64_t at = b * stride + from + j * WIDTH;
            store(below + at, where_positive(load(x + at), total[j]));
        }
    }
}

static void input_gradient(const LinearLayer *layer, const float *x, int64_t samples,
                           const float *delta, float *below) {
    int64_t width = PADDED(layer->inputs);
    for (int64_t k = 0; k < width; k += MAX_VECTORS * WIDTH) {
        int64_t vectors = smaller((width - k) / WIDTH, MAX_VECTORS);
        WITH_VECTORS(vectors, input_gradient_block(layer, k, x, samples, delta, below, VECTORS))
    }
}

/* Cross-entropy with label smoothing of each sample; delta [samples][width] becomes the gradient, by
   the logits, of the mean over a batch. */
static void cross_entropy(const float *logits, const int64_t *labels, int64_t samples, int64_t of_batch,
                          int64_t classes, float smoothing, float *losses, float *delta) {
    int64_t width = PADDED(classes);
    float others = smoothing / classes, own = 1 - smoothing + others;
    for (int64_t b = 0; b < samples; b++) {
        const float *z = logits + b * width;
        float *d = delta + b * width, largest = z[0], total = 0;
        double aimed = 0;
        for (int64_t c = 1; c < classes; c++)
            largest = z[c] > largest ? z[c] : largest;
        for (int64_t c = 0; c < classes; c++)
            total += d[c] = expf(z[c] - largest);
        float log_total = logf(total);
        for (int64_t c = 0; c < classes; c++) {
            float target = c == labels[b] ? own : others;
            if (target > 0) /* a share of 0 does not count, as 0 * -inf would */
                aimed += target * (double)(z[c] - largest - log_total);
            d[c] = (d[c] / total - target) / of_batch;
        }
        for (int64_t c = classes; c < width; c++)
            d[c] = 0;
        losses[b] = (float)-aimed;
    }
}

/* What the threads share; the last four are scratch space. */
typedef struct {
    const LinearLayer *layers;
    int64_t count;
    const float *x;
    const int64_t *labels;
    int64_t samples, of_batch, parts;
    float smoothing, *logits, *x_gradient;
    float **outputs, **deltas, *losses; /* of each layer [samples][width]; of each sample */
} Batch;

static int64_t input_stride(const Batch *batch, int64_t l) {
    return l ? PADDED(batch->layers[l].inputs) : batch->layers[0].inputs;
}

static const float *inputs_of(const Batch *batch, int64_t l) {
    return l ? batch->outputs[l - 1] : batch->x;
}

/* Take a part of the samples through the layers and back. */
static void propagate(const void *task, int64_t part) {
    const Batch *batch = task;
    int64_t start = batch->samples * part / batch->parts, last = batch->count - 1;
    int64_t samples = batch->samples * (part + 1) / batch->parts - start;
    for (int64_t l = 0; l <= last; l++) {
        const LinearLayer *layer = &batch->layers[l];
        int64_t width = PADDED(layer->outputs), stride = input_stride(batch, l);
        float *y = batch->outputs[l] + start * width;
        forward(layer, inputs_of(batch, l) + start * stride, stride, samples, 0, y);
        for (int64_t i = 0; l < last && i < samples * width; i += WIDTH)
            store(y + i, relu(load(y + i)));
    }
    int64_t classes = batch->layers[last].outputs, width = PADDED(classes);
    const float *z = batch->outputs[last] + start * width;
    for (int64_t b = 0; b < samples; b++)
        memcpy(batch->logits + (start + b) * classes, z + b * width, classes * sizeof(float));
    cross_entropy(z, batch->labels + start, samples, batch->of_batch, classes, batch->smoothing,
                  batch->losses + start, batch->deltas[last] + start * width);
    for (int64_t l = last; l > 0 || (l == 0 && batch->x_gradient); l--) {
        const LinearLayer *layer = &batch->layers[l];
        int64_t stride = input_stride(batch, l);
        input_gradient(layer, inputs_of(batch, l) + start * stride, samples,
                       batch->deltas[l] + start * PADDED(layer->outputs),
                       (l ? batch->deltas[l - 1] : batch->x_gradient) + start * stride);
    }
}

#define INPUTS 32 /* of a piece of a weight's gradient */

static int64_t gradient_pieces(const LinearLayer *layer) { return (layer->inputs + INPUTS - 1) / INPUTS; }

/* Set the gradients of a layer's bias, or of the weights of some inputs. */
static void set_parameter_gradients(const void *task, int64_t piece) {
    const Batch *batch = task;
    int64_t l = 0, pieces;
    while (piece > (pieces = gradient_pieces(&batch->layers[l]))) {
        piece -= pieces + 1;
        l++;
    }
    const LinearLayer *layer = &batch->layers[l];
    if (piece == pieces)
        bias_gradients(layer, batch->samples, batch->deltas[l]);
    else
        weight_gradients(layer, piece * INPUTS, smaller((piece + 1) * INPUTS, layer->inputs),
                         inputs_of(batch, l), input_stride(batch, l), batch->samples, 0,
                         batch->deltas[l]);
}

/* Floats of scratch space that `linear_layers` needs. */
int64_t linear_layers_scratch(const LinearLayer *layers, int64_t count, int64_t samples) {
    int64_t outputs = 0;
    for (int64_t l = 0; l < count; l++)
        outputs += PADDED(layers[l].outputs);
    return samples * (2 * outputs + 1);
}

/* Set the gradients of all layers, the loss and the logits [samples][classes], given inputs
   x [samples][inputs of the first layer] that are some of the samples of a batch, or all; gradients
   and loss are their share of those of its mean loss, the same in any number of threads. Where
   x_gradient is not null, it becomes the gradient of x where x > 0, else 0; the inputs must then be
   whole vectors. Return 0, with nothing done, if a label is out of range. */
int linear_layers(const LinearLayer *layers, int64_t count, const float *x, const int64_t *labels,
                  int64_t samples, int64_t of_batch, float smoothing, float *loss, float *logits,
                  float *x_gradient, float *scratch, int64_t threads) {
    float *outputs[count], *deltas[count];
    int64_t pieces = 0;
    for (int64_t b = 0; b < samples; b++)
        if (labels[b] < 0 || labels[b] >= layers[count - 1].outputs)
            return 0;
    for (int64_t l = 0; l < count; l++) {
        int64_t size = samples * PADDED(layers[l].outputs);
        outputs[l] = scratch;
        deltas[l] = scratch + size;
        scratch += 2 * size;
        pieces += gradient_pieces(&layers[l]) + 1;
    }
    int64_t parts = smaller(threads, (samples + WIDTH - 1) / WIDTH);
    Batch batch = {layers,    count,  x,          labels,  samples, of_batch, parts,
                   smoothing, logits, x_gradient, outputs, deltas,  scratch};
    share(propagate, &batch, parts, threads, 1);
    share(set_parameter_gradients, &batch, pieces, threads, 1);
    double total = 0;
    for (int64_t b = 0; b < samples; b++)
        total += batch.losses[b];
    *loss = (float)(total / of_batch);
    return 1;
}

/* What the threads share of a product with x - background; the outputs are whole vectors. */
typedef struct {
    const LinearLayer *layer;
    const float *x, *delta;
    int64_t samples;
    float background, *y;
} Product;

#define AT_ONCE 256 /* samples, whose y stays in the second-level cache */

static void set_outputs(const void *task, int64_t piece) {
    const Product *product = task;
    const LinearLayer *layer = product->layer;
    int64_t b = piece * AT_ONCE;
    forward(layer, product->x + b * layer->inputs, layer->inputs, smaller(product->samples - b, AT_ONCE),
            product->background, product->y + b * layer->outputs);
}

/* y [samples][outputs] = the layer's outputs for x - background. */
void linear_outputs(const LinearLayer *layer, const float *x, int64_t samples, float background, float *y,
                    int64_t threads) {
    Product product = {layer, x, 0, samples, background, y};
    share(set_outputs, &product, (samples + AT_ONCE - 1) / AT_ONCE, threads, 1);
}

static void set_weight_gradients(const void *task, int64_t piece) {
    const Product *product = task;
    const LinearLayer *layer = product->layer;
    weight_gradients(layer, piece * INPUTS, smaller((piece + 1) * INPUTS, layer->inputs), product->x,
                     layer->inputs, product->samples, product->background, product->delta);
}

/* Set the gradient of the weights: delta [samples][outputs], transposed, times x - background. */
void linear_weight_gradient(const LinearLayer *layer, const float *x, int64_t samples, float background,
                            const float *delta, int64_t threads) {
    Product product = {layer, x, delta, samples, background, 0};
    share(set_weight_gradients, &product, gradient_pieces(layer), threads, 1);
}
