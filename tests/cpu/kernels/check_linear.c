/* Linear layers: loss, logits and gradients, and the products alone. */
#include <math.h>

#include "harness.h"

/* Cross-entropy of a sample and its gradient by the logits. */
static double cross_entropy(const double *z, int64_t label, int64_t classes, int64_t samples, double *delta) {
    double largest = z[0], total = 0, loss = 0;
    for (int64_t k = 1; k < classes; k++)
        largest = z[k] > largest ? z[k] : largest;
    for (int64_t k = 0; k < classes; k++)
        total += exp(z[k] - largest);
    for (int64_t k = 0; k < classes; k++) {
        double target = (double)SMOOTHING / (double)classes + (k == label ? 1 - (double)SMOOTHING : 0);
        loss -= target * (z[k] - largest - log(total));
        delta[k] = (exp(z[k] - largest) / total - target) / (double)samples;
    }
    return loss / (double)samples;
}

void naive_linear(Case *c, NaiveLinear *n, const double *x, const int64_t *labels, int64_t samples) {
    double *y[MOST_LAYERS + 1], *delta[MOST_LAYERS + 1];
    for (int64_t l = 0; l <= n->count; l++) {
        y[l] = zeros(c, n->sizes[l]);
        delta[l] = zeros(c, n->sizes[l]);
    }
    n->logits = zeros(c, samples * n->sizes[n->count]);
    n->x_gradient = zeros(c, samples * n->sizes[0]);
    n->loss = samples ? 0 : NAN;
    for (int64_t b = 0; b < samples; b++) {
        for (int64_t k = 0; k < n->sizes[0]; k++)
            y[0][k] = x[b * n->sizes[0] + k];
        for (int64_t l = 0; l < n->count; l++)
            for (int64_t o = 0; o < n->sizes[l + 1]; o++) {
                double sum = n->bias[l][o];
                for (int64_t k = 0; k < n->sizes[l]; k++)
                    sum += y[l][k] * n->weight[l][o * n->sizes[l] + k];
                y[l + 1][o] = l < n->count - 1 && sum < 0 ? 0 : sum;
            }
        int64_t classes = n->sizes[n->count];
        for (int64_t k = 0; k < classes; k++)
            n->logits[b * classes + k] = y[n->count][k];
        n->loss += cross_entropy(y[n->count], labels[b], classes, samples, delta[n->count]);
        for (int64_t l = n->count - 1; l >= 0; l--)
            for (int64_t k = 0; k < n->sizes[l]; k++) {
                double sum = 0;
                for (int64_t o = 0; o < n->sizes[l + 1]; o++) {
                    sum += delta[l + 1][o] * n->weight[l][o * n->sizes[l] + k];
                    n->weight_gradient[l][o * n->sizes[l] + k] += delta[l + 1][o] * y[l][k];
                    n->bias_gradient[l][o] += k ? 0 : delta[l + 1][o];
                }
                delta[l][k] = y[l][k] <= 0 ? 0 : sum; /* NaN goes through, as in torch */
            }
        for (int64_t k = 0; k < n->sizes[0]; k++)
            n->x_gradient[b * n->sizes[0] + k] = delta[0][k];
    }
}

/* Integer weights or biases times `unit`: plain or held by pairs of devices, spoiled on request. */
static Weight some_weight(Case *c, int64_t count, float unit, int spoiled) {
    int pair = (int)below(c, 2);
    Weight weight = {integers(c, count, 1, 2), pair ? integers(c, count, 1, 2) : 0,
                     room(c, count, 4), pair ? room(c, count, 4) : 0, pair ? 1.5f : 0};
    for (int64_t i = 0; i < count; i++) {
        ((float *)weight.plus)[i] *= unit;
        if (pair)
            ((float *)weight.minus)[i] *= unit;
    }
    if (spoiled)
        spoil(c, (float *)weight.plus, count);
    return weight;
}

static double *values(Case *c, const Weight *weight, int64_t count) {
    double *value = widened(c, weight->plus, count);
    for (int64_t i = 0; i < count && weight->minus; i++)
        value[i] = weight->gain * (value[i] - weight->minus[i]);
    return value;
}

static void expect_gradients(Case *c, const char *what, const Weight *weight, double *want, int64_t count) {
    for (int64_t i = 0; i < count && weight->minus; i++)
        want[i] *= weight->gain;
    expect_near(c, what, weight->plus_gradient, want, count, 2e-5);
    for (int64_t i = 0; i < count; i++)
        want[i] = -want[i];
    if (weight->minus)
        expect_near(c, "of the minus side", weight->minus_gradient, want, count, 2e-5);
}

static void take_in_gradients(Case *c, const Weight *weight, int64_t count) {
    take_in(c, weight->plus_gradient, count, 4);
    take_in(c, weight->minus_gradient, weight->minus ? count : 0, 4);
}

void check_linear_layers(Case *c) {
    NaiveLinear n = {.count = 1 + below(c, MOST_LAYERS)};
    LinearLayer layers[MOST_LAYERS];
    int64_t samples = below(c, 4) ? 1 + below(c, 140) : below(c, 2), spoiled = below(c, 8);
    for (int64_t l = 0; l <= n.count; l++)
        n.sizes[l] = 1 + below(c, l ? 130 : 200);
    for (int64_t l = 0; l < n.count; l++) {
        int64_t inputs = n.sizes[l], outputs = n.sizes[l + 1];
        float unit = l == n.count - 1 ? 0x1p-10f : 1;
        layers[l] = (LinearLayer){inputs, outputs, some_weight(c, inputs * outputs, unit, spoiled == l),
                                  some_weight(c, outputs, unit, 0), 0};
    }
    int64_t classes = n.sizes[n.count], count = samples * n.sizes[0], *labels = room(c, samples, 8);
    float *x = integers(c, count, 0.3f, 2), loss, *logits = room(c, samples * classes, 4);
    float *x_gradient = n.sizes[0] % 16 ? 0 : room(c, count, 4);
    if (spoiled == MOST_LAYERS)
        spoil(c, x, count);
    for (int64_t b = 0; b < samples; b++)
        labels[b] = below(c, classes);
    float *scratch = room(c, linear_layers_scratch(layers, n.count, samples), 4);
    int done = linear_layers(layers, n.count, x, labels, samples, samples, SMOOTHING, &loss, logits, x_gradient,
                             scratch, c->threads);
    expect(c, done, "labels in range");
    take_in(c, &loss, !isnan(loss), 4);
    take_in(c, logits, samples * classes, 4);
    take_in(c, x_gradient, x_gradient ? count : 0, 4);
    for (int64_t l = 0; l < n.count; l++) {
        take_in_gradients(c, &layers[l].weight, n.sizes[l] * n.sizes[l + 1]);
        take_in_gradients(c, &layers[l].bias, n.sizes[l + 1]);
    }
    if (c->compare) {
        for (int64_t l = 0; l < n.count; l++) {
            n.weight[l] = values(c, &layers[l].weight, n.sizes[l] * n.sizes[l + 1]);
            n.bias[l] = values(c, &layers[l].bias, n.sizes[l + 1]);
            n.weight_gradient[l] = zeros(c, n.sizes[l] * n.sizes[l + 1]);
            n.bias_gradient[l] = zeros(c, n.sizes[l + 1]);
        }
        naive_linear(c, &n, widened(c, x, count), labels, samples);
        expect_near(c, "loss", &loss, &n.loss, 1, 1e-5);
        expect_near(c, "logits", logits, n.logits, samples * classes, 1e-6);
        if (x_gradient)
            expect_near(c, "x gradient", x_gradient, n.x_gradient, count, 2e-5);
        for (int64_t l = 0; l < n.count; l++) {
            expect_gradients(c, "weight gradient", &layers[l].weight, n.weight_gradient[l],
                             n.sizes[l] * n.sizes[l + 1]);
            expect_gradients(c, "bias gradient", &layers[l].bias, n.bias_gradient[l], n.sizes[l + 1]);
        }
    }
    if (samples) {
        labels[below(c, samples)] = below(c, 2) ? -1 : classes;
        expect(c, !linear_layers(layers, n.count, x, labels, samples, samples, SMOOTHING, &loss, logits,
                                 x_gradient, scratch, c->threads), "a label out of range is refused");
    }
    release(c);
}
