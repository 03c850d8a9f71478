/* See harness.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

uint64_t draw(Case *c) {
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return c->random;
}

int64_t below(Case *c, int64_t count) { return (int64_t)(draw(c) >> 20) % count; }

void *room(Case *c, int64_t count, size_t element) {
    size_t before = (size_t)(c->rooms++ * 5 % 16) * element, bytes = (size_t)count * element;
    char *block = malloc(before + bytes + !(before + bytes));
    if (!block || c->block_count == sizeof c->blocks / sizeof *c->blocks)
        abort();
    c->blocks[c->block_count++] = block;
    memset(block, 0xA5, before + bytes);
    return block + before;
}

void release(Case *c) {
    while (c->block_count)
        free(c->blocks[--c->block_count]);
}

float *integers(Case *c, int64_t count, float density, int64_t most) {
    float *x = room(c, count, sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)below(c, 1 << 20) < density * (1 << 20) ? (float)(below(c, 2 * most + 1) - most) : 0;
    return x;
}

float *uniform(Case *c, int64_t count, float width) {
    float *x = room(c, count, sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = width * ((float)below(c, 1 << 24) / (1 << 24) - 0.5f);
    return x;
}

double *zeros(Case *c, int64_t count) {
    double *x = room(c, count, sizeof *x);
    memset(x, 0, (size_t)count * sizeof *x);
    return x;
}

double *widened(Case *c, const float *x, int64_t count) {
    double *y = room(c, count, sizeof *y);
    for (int64_t i = 0; i < count; i++)
        y[i] = x[i];
    return y;
}

void spoil(Case *c, float *x, int64_t count) {
    const float values[] = {NAN, INFINITY, -INFINITY};
    for (int64_t i = 1 + below(c, 3); i > 0 && count; i--)
        x[below(c, count)] = values[below(c, 3)];
}

void take_in(Case *c, const void *result, int64_t count, size_t element) {
    const uint8_t *byte = result; /* FNV-1a */
    for (int64_t i = 0; i < count * (int64_t)element; i++)
        c->digest = (c->digest ^ byte[i]) * UINT64_C(1099511628211);
}

void expect(Case *c, int right, const char *what) {
    if (right)
        return;
    c->wrong++;
    fprintf(stderr, "WRONG: %s\n", what);
}

static int same(double got, double want) { return got == want || (isnan(got) && isnan(want)); }

void expect_near(Case *c, const char *what, const float *got, const double *want, int64_t count,
                 double tolerance) {
    double largest = 0;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(want[i]))
            largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < count; i++) {
        int near = fabs(got[i] - want[i]) <= tolerance * largest + 1e-30;
        if (near || same(got[i], want[i]))
            continue;
        c->wrong++;
        fprintf(stderr, "WRONG: %s[%lld of %lld] is %.9g, not %.9g; largest %g\n", what, (long long)i,
                (long long)count, got[i], want[i], largest);
        return;
    }
}

void expect_floats(Case *c, const char *what, const float *got, const float *want, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!same(got[i], want[i])) {
            c->wrong++;
            fprintf(stderr, "WRONG: %s[%lld of %lld] is %.9g, not %.9g\n", what, (long long)i,
                    (long long)count, got[i], want[i]);
            return;
        }
}
