/* Loss and gradients of linear layers with ReLU between them.

   Inputs that are 0 cost nothing: four in five pixels of MNIST, and half of a ReLU's outputs.
   Matrices are float32 and row-major. Those in scratch space have rows padded with 0 to whole
   vectors. */
#include <math.h>
#include <string.h>

#include "interface.h"
#include "linear_products.h"
#include "threads.h"
#include "vectors.h"

/* Cross-entropy of each sample, with label smoothing; delta [samples][width] becomes the gradient of
   the batch mean with respect to the logits. */
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
            if (target > 0) /* 0 * -inf would be NaN */
                aimed += target * (double)(z[c] - largest - log_total);
            d[c] = (d[c] / total - target) / of_batch;
        }
        for (int64_t c = classes; c < width; c++)
            d[c] = 0;
        losses[b] = (float)-aimed;
    }
}

/* A batch and its scratch space. */
typedef struct {
    const Product *outputs, *deltas; /* of each layer */
    int64_t count, of_batch;
    const int64_t *labels;
    float smoothing, *losses, *logits, *x_gradient;
} Batch;

/* Forward and backward pass of samples [from, to). */
static void propagate(const void *task, int64_t from, int64_t to) {
    const Batch *batch = task;
    int64_t last = batch->count - 1;
    for (int64_t l = 0; l <= last; l++) {
        const Product *product = &batch->outputs[l];
        int64_t width = PADDED(product->layer->outputs);
        forward(product, from, to);
        for (int64_t i = from * width; l < last && i < to * width; i += WIDTH)
            store(product->y + i, relu(load(product->y + i)));
    }
    int64_t classes = batch->outputs[last].layer->outputs, width = PADDED(classes);
    const float *z = batch->outputs[last].y;
    for (int64_t b = from; b < to; b++)
        memcpy(batch->logits + b * classes, z + b * width, classes * sizeof(float));
    cross_entropy(z + from * width, batch->labels + from, to - from, batch->of_batch, classes,
                  batch->smoothing, batch->losses + from, batch->deltas[last].y + from * width);
    for (int64_t l = last; l > 0; l--)
        input_gradient(&batch->deltas[l], from, to, batch->deltas[l - 1].y);
    if (batch->x_gradient)
        input_gradient(&batch->deltas[0], from, to, batch->x_gradient);
}

enum { DRIVE = sizeof(Drive) / sizeof(float) };

/* Floats of scratch space that `linear_layers` needs. */
int64_t linear_layers_scratch(const LinearLayer *layers, int64_t count, int64_t samples) {
    int64_t outputs = 0;
    for (int64_t l = 0; l < count; l++)
        outputs += PADDED(layers[l].outputs);
    return samples * (2 * outputs + 1 + DRIVE);
}

/* Set the gradients of all layers, the loss and the logits [samples][classes], for inputs
   x [samples][inputs of the first layer] from a batch of `of_batch`; gradients and loss are their share
   of the batch's mean, the same for any number of threads. x_gradient, if not null, becomes the
   gradient of x where x > 0, else 0; the inputs must then be whole vectors. Return 0, with nothing
   done, if a label is out of range. */
int linear_layers(const LinearLayer *layers, int64_t count, const float *x, const int64_t *labels,
                  int64_t samples, int64_t of_batch, float smoothing, float *loss, float *logits,
                  float *x_gradient, float *scratch, int64_t threads) {
    Product outputs[count], deltas[count];
    Drive *drives = (Drive *)scratch;
    scratch += samples * DRIVE;
    for (int64_t b = 0; b < samples; b++)
        if (labels[b] < 0 || labels[b] >= layers[count - 1].outputs)
            return 0;
    for (int64_t l = 0; l < count; l++) {
        int64_t stride = l ? PADDED(layers[l].inputs) : layers[l].inputs;
        int64_t size = samples * PADDED(layers[l].outputs);
        outputs[l] = (Product){&layers[l], x, stride, samples, scratch, drives};
        deltas[l] = (Product){&layers[l], x, stride, samples, scratch + size, drives};
        x = scratch;
        scratch += 2 * size;
    }
    Batch batch = {outputs, deltas, count, of_batch, labels, smoothing, scratch, logits, x_gradient};
    Trial trial = begin_trial(threads);
    threads = trial.threads;
    /* one piece per thread, since each transposes all weights */
    share(propagate, &batch, samples, PADDED((samples + threads - 1) / threads), threads, WAKE);
    for (int64_t l = 0; l < count; l++) {
        weight_gradients(&deltas[l], threads);
        bias_gradients(&deltas[l]);
    }
    end_trial(&trial, samples);
    double total = 0;
    for (int64_t b = 0; b < samples; b++)
        total += batch.losses[b];
    *loss = (float)(total / of_batch);
    return 1;
}

typedef struct {
    const Product *product;
    float *out;
} Reads;

static void read_some(const void *task, int64_t from, int64_t to) {
    const Reads *reads = task;
    int64_t outputs = reads->product->layer->outputs, width = PADDED(outputs);
    forward(reads->product, from, to);
    for (int64_t b = from; b < to; b++)
        memcpy(reads->out + b * outputs, reads->product->y + b * width, outputs * sizeof(float));
}

/* Set out [samples][outputs] to the product of a layer that is read with x [samples][inputs]; the scratch
   space is that of `linear_layers`. */
void read_product(const LinearLayer *layer, const float *x, int64_t samples, float *out, float *scratch,
                  int64_t threads) {
    enum { AT_ONCE = 256 }; /* outputs stay in cache, and transposing the weights is little of the work */
    Product product = {layer, x, layer->inputs, samples, scratch + samples * DRIVE, (Drive *)scratch};
    Reads reads = {&product, out};
    share(read_some, &reads, samples, AT_ONCE, threads, WAKE);
}
