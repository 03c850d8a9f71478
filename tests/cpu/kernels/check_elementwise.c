/* Elementwise kernels; those that promise torch's bits must match a scalar version exactly. */
#include <math.h>
#include <string.h>

#include "harness.h"

static float *copied(Case *c, const float *x, int64_t count) {
    float *y = room(c, count, sizeof *y);
    memcpy(y, x, (size_t)count * sizeof *y);
    return y;
}

static int64_t some_count(Case *c) { return below(c, 3) ? below(c, 300) : below(c, 30000); }

static float *some_numbers(Case *c, int64_t count) {
    float *x = uniform(c, count, below(c, 3) ? 1 : 1e-38f); /* else denormal */
    if (below(c, 3) == 0)
        spoil(c, x, count);
    return x;
}

static void check_batches(Case *c) {
    int64_t images = 1 + below(c, 90), size = below(c, 130), count = below(c, 300);
    float scale = 0.0123f, shift = 0.3f, *out = room(c, count * size, 4);
    uint8_t *pixels = room(c, images * size, 1);
    int64_t *indices = room(c, count, 8);
    for (int64_t i = 0; i < images * size; i++)
        pixels[i] = (uint8_t)draw(c);
    for (int64_t i = 0; i < count; i++)
        indices[i] = below(c, images);
    expect(c, pixels_to_inputs(pixels, images, size, indices, count, scale, shift, out, c->threads), "indices");
    take_in(c, out, count * size, 4);
    if (c->compare)
        for (int64_t i = 0; i < count * size; i++) {
            float product = (float)pixels[indices[i / size] * size + i % size] * scale;
            expect(c, out[i] == product - shift, "pixels_to_inputs");
        }
    if (count) {
        indices[below(c, count)] = below(c, 2) ? -1 : images;
        expect(c, !pixels_to_inputs(pixels, images, size, indices, count, scale, shift, out, c->threads),
               "an index out of range is refused");
    }
}

static void check_update(Case *c) {
    int64_t count = some_count(c);
    float *weight = some_numbers(c, count), *gradient = some_numbers(c, count);
    float *velocity = below(c, 2) ? some_numbers(c, count) : 0;
    float *w = copied(c, weight, count), *v = velocity ? copied(c, velocity, count) : 0;
    asymmetric_sgd(weight, gradient, velocity, count, 0.9f, -0.1f, 1.03f, c->threads);
    take_in(c, weight, count, 4);
    if (velocity)
        take_in(c, velocity, count, 4);
    if (!c->compare)
        return;
    for (int64_t i = 0; i < count; i++) {
        float momentum = v ? v[i] * 0.9f : 0, now = v ? momentum + gradient[i] : gradient[i];
        float scaled = now > 0 ? now : now * 1.03f;
        w[i] = fmaf(-0.1f, scaled, w[i]);
        if (v)
            v[i] = now;
    }
    expect_floats(c, "asymmetric_sgd", weight, w, count);
    if (velocity)
        expect_floats(c, "velocity", velocity, v, count);
}

/* Conductance of a level, from -0.4 to 0.5. */
static float conductance(float level) {
    float w = fmaf(0.01f, level, -0.4f);
    return w < -0.4f ? -0.4f : w > 0.5f ? 0.5f : w;
}

static void check_rounding(Case *c) {
    int64_t count = some_count(c), generators = (count + 3) / 4;
    float *nearest = some_numbers(c, count), *random = copied(c, nearest, count);
    float *want_nearest = copied(c, nearest, count), *want_random = copied(c, nearest, count);
    uint64_t *lanes = room(c, generators, 8), *before = room(c, generators, 8);
    uint64_t *same_lanes = room(c, generators, 8);
    float *counted = copied(c, nearest, count), *start = copied(c, nearest, count);
    int32_t *moves = room(c, count, 4);
    int to_nearest = below(c, 2);
    for (int64_t i = 0; i < count; i++) {
        moves[i] = 7;
        start[i] = conductance((float)below(c, 91));
        if (below(c, 2))
            counted[i] = start[i]; /* not asked to change */
    }
    float *asked = copied(c, counted, count), *kept = copied(c, start, count);
    int keeps = (int)below(c, 2);
    for (int64_t i = 0; i < generators; i++)
        lanes[i] = before[i] = same_lanes[i] = draw(c);
    round_nearest(nearest, count, 40, 100, -0.4f, 0.5f, 0.01f, c->threads);
    round_stochastic(random, count, 40, 100, -0.4f, 0.5f, 0.01f, lanes, 0.5f, c->threads);
    round_counting_moves(counted, kept, moves, keeps, count, 40, 100, -0.4f, 0.5f, 0.01f,
                         to_nearest ? 0 : same_lanes, 0.5f, c->threads);
    take_in(c, counted, count, 4);
    take_in(c, moves, count, 4);
    take_in(c, nearest, count, 4);
    take_in(c, random, count, 4);
    take_in(c, lanes, generators, 8);
    if (!c->compare)
        return;
    for (int64_t i = 0; i < generators; i++) {
        Case generator = {.random = before[i]};
        uint64_t bits = draw(&generator); /* draw() is the same xorshift64 */
        expect(c, bits == lanes[i], "a generator's step");
        for (int64_t j = 4 * i; j < count && j < 4 * i + 4; j++) {
            float number = fmaf(0x1p-16f, (float)(int16_t)(bits >> (16 * (j % 4))), 0.5f);
            float level = fmaf(100, want_random[j], number);
            want_random[j] = conductance(floorf(level + 40));
            want_nearest[j] = conductance(nearbyintf(fmaf(100, want_nearest[j], 40)));
        }
    }
    for (int64_t i = 0; i < count; i++) {
        float levels = nearbyintf(fabsf(counted[i] - start[i]) / 0.01f);
        int64_t want = asked[i] != start[i] && levels == levels ? (int64_t)levels : 0;
        expect(c, moves[i] == 7 + want, "round_counting_moves");
    }
    expect_floats(c, "kept by round_counting_moves", kept, keeps ? counted : start, count);
    expect_floats(c, "round_nearest", nearest, want_nearest, count);
    expect_floats(c, "round_stochastic", random, want_random, count);
}

static void check_counts(Case *c) {
    int64_t count = some_count(c), samples = below(c, 100), classes = 1 + below(c, 12);
    float *x = some_numbers(c, count), *logits = integers(c, samples * classes, 0.8f, 3);
    double total = 0;
    int64_t *labels = room(c, samples, 8), others = 0, correct = 0;
    spoil(c, logits, below(c, 2) ? samples * classes : 0);
    for (int64_t i = 0; i < samples; i++)
        labels[i] = below(c, classes);
    float length = norm(x, count, c->threads);
    int64_t found = nonzero(logits, samples * classes);
    int64_t right = correct_predictions(logits, labels, samples, classes);
    take_in(c, &length, !isnan(length), 4);
    take_in(c, &found, 1, 8);
    take_in(c, &right, 1, 8);
    for (int64_t i = 0; i < count; i++)
        total += (double)x[i] * x[i];
    for (int64_t i = 0; i < samples * classes; i++)
        others += logits[i] != 0;
    for (int64_t i = 0; i < samples; i++) {
        const float *z = logits + i * classes;
        int64_t best = 0;
        for (int64_t k = classes - 1; k >= 0; k--)
            if (isnan(z[k]) || (!isnan(z[best]) && z[k] >= z[best]))
                best = k;
        correct += best == labels[i];
    }
    double root = sqrt(total);
    expect_near(c, "norm", &length, &root, 1, 1e-6);
    expect(c, found == others, "nonzero");
    expect(c, right == correct, "correct_predictions");
}

void check_elementwise(Case *c) {
    check_batches(c);
    check_update(c);
    check_rounding(c);
    check_counts(c);
    release(c);
}
