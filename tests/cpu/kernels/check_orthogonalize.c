/* The Newton-Schulz iteration against the published one, which works on the matrix itself. */
#include <math.h>

#include "harness.h"

static const float QUINTIC[] = {3.4445f, -4.775f, 2.0315f};

static void step(Case *c, double *x, int64_t rows, int64_t columns) {
    double *gram = zeros(c, rows * rows), *factor = zeros(c, rows * rows), *next = zeros(c, rows * columns);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < rows; j++)
            for (int64_t k = 0; k < columns; k++)
                gram[i * rows + j] += x[i * columns + k] * x[j * columns + k];
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < rows; j++) {
            double square = 0;
            for (int64_t k = 0; k < rows; k++)
                square += gram[i * rows + k] * gram[k * rows + j];
            factor[i * rows + j] = QUINTIC[0] * (i == j) + QUINTIC[1] * gram[i * rows + j] + QUINTIC[2] * square;
        }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < rows; j++)
            for (int64_t k = 0; k < columns; k++)
                next[i * columns + k] += factor[i * rows + j] * x[j * columns + k];
    for (int64_t i = 0; i < rows * columns; i++)
        x[i] = next[i];
}

void check_orthogonalize(Case *c) {
    int64_t rows = below(c, 65), columns = rows + 1 + below(c, 200);
    int64_t steps = below(c, 7), at_once = 1 + below(c, 5);
    float *x = uniform(c, rows * columns, 1);
    double *naive = widened(c, x, rows * columns), total = 0;
    orthogonalize(x, rows, columns, steps, at_once, QUINTIC[0], QUINTIC[1], QUINTIC[2]);
    take_in(c, x, rows * columns, 4);
    if (c->compare) {
        for (int64_t i = 0; i < rows * columns; i++)
            total += naive[i] * naive[i];
        for (int64_t i = 0; i < rows * columns && steps; i++)
            naive[i] /= sqrt(total) + 1e-7;
        for (int64_t i = 0; i < steps; i++)
            step(c, naive, rows, columns);
        expect_near(c, "orthogonalize", x, naive, rows * columns, 2e-3);
    }
    release(c);
}
