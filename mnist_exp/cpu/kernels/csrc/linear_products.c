/* The products of a linear layer, skipping inputs of 0. */
#include <string.h>

#include "interface.h"
#include "linear_products.h"
#include "threads.h"
#include "vectors.h"

#define CHUNK 64   /* inputs of a block of transposed weights, which stays in the first-level cache */
#define SAMPLES 64 /* of a block of transposed inputs; what they are multiplied with stays there, too */

/* Load `rows` vectors of values from successive matrix rows, `count` elements of each. */
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

/* Store likewise, given the gradients of the values. */
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

/* Whether `count` numbers, whole vectors, are all finite (0 times any other is NaN). */
static int all_finite(const float *x, int64_t count) {
    Vector total[4] = {zero(), zero(), zero(), zero()}; /* independent sums */
    int64_t i = 0;
    for (; i + 4 * WIDTH <= count; i += 4 * WIDTH)
        for (int j = 0; j < 4; j++)
            total[j] = multiply_add(load(x + i + j * WIDTH), zero(), total[j]);
    for (; i < count; i += WIDTH)
        total[0] = multiply_add(load(x + i), zero(), total[0]);
    return sum(add(add(total[0], total[1]), add(total[2], total[3]))) == 0;
}

/* List the nonzero factors of x[0:count] and their rows; return their number. Factors of 0 are listed
   too if a row is not finite, since their product is NaN. */
INLINE int64_t list_factors(const float *x, int64_t count, int rows_finite, float *values,
                            int32_t *positions) {
    if (rows_finite)
        return nonzeros(x, count, values, positions);
    for (int64_t i = 0; i < count; i++) {
        values[i] = x[i];
        positions[i] = (int32_t)i;
    }
    return count;
}

/* sums[0:vectors] += value * row of each value */
INLINE void add_rows(const float *rows, int64_t stride, const float *values, const int32_t *positions,
                     int64_t count, float *sums, const int vectors) {
    Vector total[MAX_VECTORS];
    for (int j = 0; j < vectors; j++)
        total[j] = load(sums + j * WIDTH);
    for (int64_t i = 0; i < count; i++) {
        const float *row = rows + positions[i] * stride;
        __asm__("" : "+r"(row)); /* one address for all vectors: GCC would compute each */
        Vector value = broadcast(values[i]);
        for (int j = 0; j < vectors; j++)
            total[j] = multiply_add(value, load(row + j * WIDTH), total[j]);
    }
    for (int j = 0; j < vectors; j++)
        store(sums + j * WIDTH, total[j]);
}

/* Call a kernel with a constant number of vectors, so that sums stay in registers. */
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

/* block[k][o] = weight[o][k] for a range of outputs and inputs; 0 in the padding. Return whether all
   are finite. */
static int transpose_weights(const LinearLayer *layer, int64_t from_output, int64_t outputs,
                             int64_t from_input, int64_t inputs, float *block) {
    int64_t width = PADDED(outputs), stride = layer->inputs;
    Vector rows[WIDTH], zeros = zero(); /* NaN if a weight is not finite */
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
            for (int64_t i = 0; i < WIDTH && k + i < inputs; i++) {
                store(block + (k + i) * width + o, rows[i]);
                zeros = multiply_add(rows[i], zero(), zeros);
            }
        }
    return sum(zeros) == 0;
}

/* driven[0:inputs] = voltages of x */
INLINE const float *voltages(const ArrayReading *reading, float to_voltage, const float *x, int64_t inputs,
                             float *driven) {
    for (int64_t k = 0; k < inputs; k += WIDTH)
        store(driven + k, voltage(reading, to_voltage, load_first(x + k, inputs - k)));
    return driven;
}

/* y[b][o] = bias[o] + sum over k of x[b][k] weight[o][k], for samples [from, to) and a block of
   outputs; where the layer is read, voltages stand for x, and there is no bias yet */
INLINE void forward_block(const Product *p, int64_t from, int64_t to, int64_t output, const int vectors) {
    ALIGNED float block[CHUNK * MAX_VECTORS * WIDTH], values[CHUNK + WIDTH], driven[CHUNK];
    ALIGNED int32_t positions[CHUNK + WIDTH];
    const LinearLayer *layer = p->layer;
    int64_t outputs = smaller(layer->outputs - output, vectors * WIDTH), width = PADDED(layer->outputs);
    float *y = p->y + output;
    for (int j = 0; j < vectors; j++) {
        Vector bias = zero();
        if (!layer->reading)
            load_values(&layer->bias, output + j * WIDTH, 0, 1, outputs - j * WIDTH, &bias);
        for (int64_t b = from; b < to; b++)
            store(y + b * width + j * WIDTH, bias);
    }
    for (int64_t k = 0; k < layer->inputs; k += CHUNK) {
        int64_t inputs = smaller(layer->inputs - k, CHUNK);
        int finite = transpose_weights(layer, output, outputs, k, inputs, block);
        for (int64_t b = from; b < to; b++) {
            const float *x = p->x + b * p->stride + k;
            for (int64_t i = 0; i < inputs; i += 16)
                __builtin_prefetch(x + 2 * p->stride + i); /* rows lie far apart */
            if (layer->reading)
                x = voltages(layer->reading, p->drives[b].to_voltage, x, inputs, driven);
            int64_t count = list_factors(x, inputs, finite, values, positions);
            add_rows(block, vectors * WIDTH, values, positions, count, y + b * width, vectors);
        }
    }
}

/* Turn the sums of sample b into what is read, and add the bias. */
static void read_out(const Product *p, int64_t b) {
    const LinearLayer *layer = p->layer;
    float *y = p->y + b * PADDED(layer->outputs);
    convert(layer->reading, &p->drives[b], b, layer->outputs, y);
    for (int64_t o = 0; layer->bias.plus && o < layer->outputs; o += WIDTH) {
        Vector bias;
        load_values(&layer->bias, o, 0, 1, layer->outputs - o, &bias);
        store(y + o, add(load(y + o), bias));
    }
}

void forward(const void *task, int64_t from, int64_t to) {
    const Product *product = task;
    const LinearLayer *layer = product->layer;
    int64_t width = PADDED(layer->outputs);
    for (int64_t b = from; layer->reading && b < to; b++)
        product->drives[b] = drive(layer->reading, product->x + b * product->stride, layer->inputs);
    for (int64_t o = 0; o < width; o += MAX_VECTORS * WIDTH) {
        int64_t vectors = smaller((width - o) / WIDTH, MAX_VECTORS);
        WITH_VECTORS(vectors, forward_block(product, from, to, o, VECTORS))
    }
    for (int64_t b = from; layer->reading && b < to; b++)
        read_out(product, b);
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

typedef struct {
    const Product *product;
    int finite; /* whether all deltas are finite */
} Deltas;

/* weight_gradient[o][k] = sum over b of y[b][o] x[b][k], for inputs [from, to) and a block of
   outputs */
INLINE void weight_gradient_block(const Deltas *deltas, int64_t from, int64_t to, int64_t output,
                                  const int vectors) {
    const Product *p = deltas->product;
    ALIGNED float sums[WIDTH][MAX_VECTORS * WIDTH], columns[WIDTH][SAMPLES], values[SAMPLES + WIDTH];
    ALIGNED int32_t positions[SAMPLES + WIDTH];
    Vector rows[WIDTH];
    const LinearLayer *layer = p->layer;
    int64_t outputs = smaller(layer->outputs - output, vectors * WIDTH), width = PADDED(layer->outputs);
    for (int64_t k = from; k < to; k += WIDTH) {
        int64_t inputs = smaller(to - k, WIDTH);
        memset(sums, 0, sizeof sums);
        for (int64_t b = 0; b < p->samples; b += SAMPLES) {
            int64_t here = smaller(p->samples - b, SAMPLES);
            transpose_inputs(p->x + b * p->stride + k, p->stride, here, inputs, columns);
            for (int64_t i = 0; i < inputs; i++) {
                int64_t count = list_factors(columns[i], here, deltas->finite, values, positions);
                add_rows(p->y + b * width + output, width, values, positions, count, sums[i], vectors);
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

static void some_weight_gradients(const void *task, int64_t from, int64_t to) {
    const Deltas *deltas = task;
    int64_t width = PADDED(deltas->product->layer->outputs);
    for (int64_t o = 0; o < width; o += MAX_VECTORS * WIDTH) {
        int64_t vectors = smaller((width - o) / WIDTH, MAX_VECTORS);
        WITH_VECTORS(vectors, weight_gradient_block(deltas, from, to, o, VECTORS))
    }
}

void weight_gradients(const Product *product, int64_t threads) {
    enum { INPUTS = 32 }; /* of a piece of work, some microseconds */
    int64_t count = product->samples * PADDED(product->layer->outputs);
    Deltas deltas = {product, all_finite(product->y, count)};
    share(some_weight_gradients, &deltas, product->layer->inputs, INPUTS, threads, WAKE);
}

void bias_gradients(const Product *product) {
    const LinearLayer *layer = product->layer;
    int64_t width = PADDED(layer->outputs);
    for (int64_t o = 0; o < layer->outputs; o += WIDTH) {
        Vector total = zero();
        for (int64_t b = 0; b < product->samples; b++)
            total = add(total, load(product->y + b * width + o));
        set_gradients(&layer->bias, o, 0, 1, layer->outputs - o, &total);
    }
}

/* Samples and vectors of inputs that share what is loaded; their sums fit the registers. */
enum { TOGETHER = 4, INPUT_VECTORS = 3 };

/* below[b][k] = sum over o of y[b][o] weight[o][k] where x[b][k] > 0, else 0, for samples b, b + 1, ...
   and a block of inputs */
INLINE void input_gradient_block(const Product *p, int64_t b, const int samples, int64_t input, float *below,
                                 const int vectors) {
    const LinearLayer *layer = p->layer;
    int64_t width = PADDED(layer->outputs);
    Vector total[TOGETHER][INPUT_VECTORS], weight[INPUT_VECTORS];
    for (int s = 0; s < samples; s++)
        for (int j = 0; j < vectors; j++)
            total[s][j] = zero();
    for (int64_t o = 0; o < layer->outputs; o++) {
        int64_t at = o * layer->inputs + input;
        for (int j = 0; j < vectors; j++)
            load_values(&layer->weight, at + j * WIDTH, 0, 1, layer->inputs - input - j * WIDTH, &weight[j]);
        for (int s = 0; s < samples; s++)
            for (int j = 0; j < vectors; j++)
                total[s][j] = multiply_add(broadcast(p->y[(b + s) * width + o]), weight[j], total[s][j]);
    }
    for (int s = 0; s < samples; s++)
        for (int j = 0; j < vectors; j++) {
            int64_t at = (b + s) * p->stride + input + j * WIDTH;
            store(below + at, where_positive(load(p->x + at), total[s][j]));
        }
}

INLINE void input_gradients(const Product *p, int64_t b, const int samples, int64_t input, float *below) {
    switch (smaller((PADDED(p->layer->inputs) - input) / WIDTH, INPUT_VECTORS)) {
        CASE(1, input_gradient_block(p, b, samples, input, below, VECTORS))
        CASE(2, input_gradient_block(p, b, samples, input, below, VECTORS))
        CASE(3, input_gradient_block(p, b, samples, input, below, VECTORS))
    }
}

void input_gradient(const Product *product, int64_t from, int64_t to, float *below) {
    int64_t width = PADDED(product->layer->inputs);
    for (int64_t k = 0; k < width; k += INPUT_VECTORS * WIDTH) { /* its weights stay in cache */
        int64_t b = from;
        for (; b + TOGETHER <= to; b += TOGETHER)
            input_gradients(product, b, TOGETHER, k, below);
        for (; b < to; b++)
            input_gradients(product, b, 1, k, below);
    }
}
