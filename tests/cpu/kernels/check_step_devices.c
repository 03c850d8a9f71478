/* Pulses of step models: without noise against one device and one pulse at a time, in double. */
#include <math.h>
#include <string.h>

#include "harness.h"

#define D 0.05f

typedef struct {
    StepDevices devices;
    int64_t count;
    float *w, *before, *factor, *offset;
    int32_t *counts;
    double *want, *want_offset;
    int noisy;
} Array;

static float *around(Case *c, int64_t count, float center, float width) {
    float *x = uniform(c, count, width);
    for (int64_t i = 0; i < count; i++)
        x[i] += center;
    return x;
}

static Number some_number(Case *c, int64_t count, float center, float width) {
    float *x = around(c, count, center, width);
    return below(c, 2) && count ? (Number){x, NAN} : (Number){0, center};
}

static Direction some_direction(Case *c, int64_t count, float sign) {
    return (Direction){some_number(c, count, sign * D, 0.01f), some_number(c, count, 0.4f, 0.2f),
                       some_number(c, count, -0.5f, 0.3f), some_number(c, count, 0.7f, 0.3f)};
}

static Array some_array(Case *c, int64_t count, int noisy) {
    Array a = {.count = count, .noisy = noisy};
    a.before = around(c, count, 0, 0.9f);
    a.w = room(c, count, 4);
    memcpy(a.w, a.before, (size_t)count * 4);
    a.factor = below(c, 2) ? around(c, count, 1, 0.05f) : 0;
    a.counts = below(c, 2) ? room(c, count, 4) : 0;
    a.offset = below(c, 2) ? around(c, count, 0, 0.1f) : 0;
    a.devices = (StepDevices){
        .shape = below(c, 3), .most = 4, .W_min = some_number(c, count, -0.9f, 0.1f),
        .W_max = some_number(c, count, 0.9f, 0.1f), .offset = some_number(c, count, 0.1f, 0.1f),
        .up = some_direction(c, count, 1), .down = some_direction(c, count, -1),
        .step_noise = noisy ? 0.3f : 0, .offset_noise = noisy ? 0.5f : 0, .write_noise = noisy ? 0.2f : 0,
        .write_offset = a.offset, .up_only = below(c, 3) == 0, .counts = a.counts};
    if (a.counts)
        memset(a.counts, 0, (size_t)count * 4);
    a.want = widened(c, a.w, count);
    a.want_offset = a.offset ? widened(c, a.offset, count) : 0;
    return a;
}

static double value(Number n, int64_t i) { return n.each ? n.each[i] : n.all; }

static double shape(const StepDevices *d, const Direction *way, int64_t i, double w) {
    double line = value(way->constant, i) + value(way->slope, i) * w, third = value(way->third, i);
    if (d->shape == EXPONENTIAL)
        return 1 - third * exp(line);
    return d->shape == POWER ? pow(fmin(fmax(line, 0), 1), third) : line;
}

static void naive_pulses(Array *a, int64_t i, double asked) {
    const StepDevices *d = &a->devices;
    const Direction *way = asked > 0 ? &d->up : &d->down;
    double pulses = fmin(fabs(asked), (double)d->most), w = a->want[i];
    if (isnan(asked))
        a->want[i] = NAN;
    if (asked == 0 || isnan(a->want[i]) || (asked < 0 && d->up_only))
        return;
    w -= a->want_offset ? a->want_offset[i] : 0;
    for (int64_t pulse = 0; pulse < (int64_t)pulses; pulse++) {
        double size = fmax(shape(d, way, i, w), 0) + value(d->offset, i);
        w = fmin(fmax(w + value(way->scale, i) * size, value(d->W_min, i)), value(d->W_max, i));
    }
    a->want[i] = w;
    if (a->want_offset)
        a->want_offset[i] = 0;
}

static void compare(Case *c, const Array *a, const int32_t *counts, const char *what) {
    take_in(c, a->w, a->count, 4);
    if (a->offset)
        take_in(c, a->offset, a->count, 4);
    if (a->counts)
        take_in(c, a->counts, a->count, 4);
    if (!c->compare || a->noisy)
        return;
    expect_near(c, what, a->w, a->want, a->count, 2e-5);
    for (int64_t i = 0; a->counts && i < a->count; i++)
        expect(c, a->counts[i] == counts[i], "pulses counted");
}

static int32_t given(const StepDevices *d, double asked) {
    if (isnan(asked) || (asked < 0 && d->up_only))
        return 0;
    return (int32_t)fmin(fabs(asked), (double)d->most);
}

static void check_batch(Case *c) {
    int64_t count = below(c, 3) ? below(c, 300) : below(c, 5000), rounding = below(c, 3);
    Array a = some_array(c, count, rounding == STOCHASTIC || below(c, 3) == 0);
    float *remainder = around(c, count, 0, 0.1f);
    double *held = widened(c, remainder, count);
    int32_t *counts = room(c, count, 4);
    for (int64_t i = 0; i < count; i++) {
        double pulses = below(c, 3) ? 0 : (double)below(c, 13) - 6 + 0.25, factor = a.factor ? a.factor[i] : 1;
        a.w[i] += D * (float)pulses;
        if (below(c, 50) == 0)
            a.w[i] = below(c, 2) ? INFINITY : NAN;
        double asked = (double)(a.w[i] - a.before[i]) * factor / D;
        asked = rounding == ACCUMULATE ? trunc(asked + (asked ? held[i] : 0)) : nearbyint(asked);
        counts[i] = given(&a.devices, asked);
        naive_pulses(&a, i, asked);
    }
    program_batch(&a.devices, a.w, a.before, a.factor, remainder, count, D, rounding, 77, c->threads);
    compare(c, &a, counts, "program_batch");
    if (rounding == ACCUMULATE)
        take_in(c, remainder, count, 4);
}

static void check_samples(Case *c) {
    int64_t in = 1 + below(c, 60), out = below(c, 20), samples = below(c, 3) ? below(c, 40) : below(c, 300);
    int64_t first = below(c, 30), rounding = below(c, 2), rest = below(c, 30);
    Array a = some_array(c, first + in * out + rest, rounding == STOCHASTIC || below(c, 3) == 0);
    float *inputs = integers(c, samples * in, 0.3f, 2), *errors = integers(c, out * samples, 0.4f, 3);
    int32_t *counts = room(c, a.count, 4);
    memset(counts, 0, (size_t)a.count * 4);
    if (a.factor) /* rounded alike in double */
        for (int64_t i = 0; i < a.count; i++)
            a.factor[i] = 1 + 0.015625f * (float)below(c, 3);
    for (int64_t i = 0; i < out * samples; i++)
        errors[i] *= below(c, 200) ? 1 : INFINITY;
    for (int64_t o = 0; o < out; o++)
        for (int64_t line = 0; line < in; line++)
            for (int64_t n = 0; n < samples; n++) {
                int64_t i = first + o * in + line;
                double x = inputs[n * in + line], asked = x ? 0.53 * x * errors[o * samples + n] : 0;
                asked = nearbyint(asked * (a.factor ? a.factor[i] : 1) * (asked < 0 ? 1.125 : 1));
                counts[i] += given(&a.devices, asked);
                naive_pulses(&a, i, asked);
            }
    program_samples(&a.devices, a.w, first, a.factor, inputs, errors, samples, in, out, 0.53f, 1.125f,
                    rounding, 78, c->threads);
    compare(c, &a, counts, "program_samples");
}

void check_step_devices(Case *c) {
    check_batch(c);
    check_samples(c);
    release(c);
}
