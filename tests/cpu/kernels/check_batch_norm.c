/* Each step of batch normalisation, ReLU and pooling against a naive version.

   All numbers are small integers, or halves of them, so that equal numbers meet in windows and at 0. */
#include "harness.h"

typedef struct {
    double *activations, *gradient; /* before pooling; before the ReLU */
    double *sums[2];                /* by step 0 and step 2 */
    double *output, *x_gradient;
} Naive;

/* Give a window's gradient to its first largest activation, if that is above 0. */
static void pool_windows(Case *c, const Normalisation *n, int64_t images, const double *gradient,
                         Naive *naive) {
    int64_t side = 1 + n->pooled, height = n->height / side, width = n->width / side, channels = n->channels;
    naive->output = zeros(c, images * height * width * channels);
    for (int64_t i = 0; i < images * height * width * channels; i++) {
        int64_t channel = i % channels, x = i / channels % width, y = i / channels / width % height;
        int64_t image = i / channels / width / height, first = -1;
        for (int64_t k = 0; k < side * side; k++) {
            int64_t row = image * n->height + y * side + k / side;
            int64_t at = (row * n->width + x * side + k % side) * channels + channel;
            if (first < 0 || naive->activations[at] > naive->activations[first])
                first = at;
        }
        if (naive->activations[first] > 0) {
            naive->output[i] = naive->activations[first];
            naive->gradient[first] = gradient[i];
        }
    }
}

static Naive naive_version(Case *c, const Normalisation *n, int64_t images, const float *gradient) {
    int64_t channels = n->channels, size = n->height * n->width, count = images * size * channels;
    double *x = widened(c, n->x, count), *scale = widened(c, n->scale, channels);
    double *shift = widened(c, n->shift, channels), *centre = widened(c, n->centre, channels);
    double *slope = widened(c, n->slope, channels), *offset = widened(c, n->offset, channels);
    int64_t side = 1 + n->pooled;
    Naive naive = {.activations = zeros(c, count), .gradient = zeros(c, count),
                   .sums = {zeros(c, images * 2 * channels), zeros(c, images * 2 * channels)},
                   .x_gradient = zeros(c, count)};
    for (int64_t i = 0; i < count; i++)
        naive.activations[i] = x[i] * scale[i % channels] + shift[i % channels];
    pool_windows(c, n, images, widened(c, gradient, count / side / side), &naive);
    for (int64_t i = 0; i < count; i++) {
        int64_t channel = i % channels, image = i / channels / size;
        double from_centre = x[i] - centre[channel], g = naive.gradient[i];
        naive.sums[0][2 * image * channels + channel] += from_centre;
        naive.sums[0][(2 * image + 1) * channels + channel] += from_centre * from_centre;
        naive.sums[1][2 * image * channels + channel] += g;
        naive.sums[1][(2 * image + 1) * channels + channel] += g * from_centre;
        naive.x_gradient[i] = g * scale[channel] + x[i] * slope[channel] + offset[channel];
    }
    return naive;
}

void check_batch_norm(Case *c) {
    int64_t pooled = below(c, 2), side = 1 + pooled, images = 1 + below(c, 11);
    Normalisation n = {.height = side * (1 + below(c, 6)), .width = side * (1 + below(c, 6)),
                       .channels = 1 + below(c, 40), .pooled = pooled};
    int64_t count = images * n.height * n.width * n.channels, left = count / side / side;
    float *gradient = integers(c, left, 0.9f, 5), *factors[5];
    for (int i = 0; i < 5; i++) {
        factors[i] = integers(c, n.channels, 1, 4);
        for (int64_t j = 0; j < n.channels; j++)
            factors[i][j] /= 2;
    }
    n.x = integers(c, count, 0.9f, 3);
    n.gradient = gradient;
    n.centre = factors[0], n.scale = factors[1], n.shift = factors[2];
    n.slope = factors[3], n.offset = factors[4];
    float *sums = room(c, images * 2 * n.channels, 4);
    float *out = room(c, left, 4), *x_gradient = room(c, count, 4);
    Naive naive = {0};
    if (c->compare)
        naive = naive_version(c, &n, images, gradient);
    for (n.step = 0; n.step < 4; n.step++) {
        n.sums = sums;
        n.out = n.step == 1 ? out : x_gradient;
        batch_norm(&n, images, c->threads);
        if (n.step % 2 == 0)
            take_in(c, sums, images * 2 * n.channels, 4);
        if (n.step % 2 == 0 && c->compare)
            expect_near(c, "sums of batch_norm", sums, naive.sums[n.step / 2], images * 2 * n.channels, 1e-6);
    }
    take_in(c, out, left, 4);
    take_in(c, x_gradient, count, 4);
    if (c->compare) {
        expect_near(c, "output of batch_norm", out, naive.output, left, 1e-6);
        expect_near(c, "input gradient of batch_norm", x_gradient, naive.x_gradient, count, 1e-6);
    }
    release(c);
}
