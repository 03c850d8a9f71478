/* Approximately the nearest semi-orthogonal matrix, for a shorter side of at most SIDE. */
#include <math.h>
#include <string.h>

#include "interface.h"
#include "threads.h"
#include "vectors.h"

#define SIDE 64 /* LARGEST_SIDE in functions.py */
/* Independent sums accumulated together, to hide latency. */
#define ROWS 4
#define VECTORS 2
#define BLOCK (VECTORS * WIDTH)

/* `size` rows of whole vectors, the padding 0. */
typedef float Square[SIDE][SIDE];

/* `rows` rows of a times b, for `vectors` vectors of columns; b and out share a stride. */
INLINE void multiply_rows(const float *a, int64_t a_stride, const float *b, float *out, int64_t stride,
                          int64_t size, const int rows, const int vectors) {
    Vector total[ROWS][VECTORS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++)
            total[i][j] = zero();
    for (int64_t k = 0; k < size; k++)
        for (int j = 0; j < vectors; j++) {
            Vector value = load(b + k * stride + j * WIDTH);
            for (int i = 0; i < rows; i++)
                total[i][j] = multiply_add(broadcast(a[i * a_stride + k]), value, total[i][j]);
        }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++)
            store(out + i * stride + j * WIDTH, total[i][j]);
}

/* out [rows][width] = a [rows][size] times b [size][width]; width is whole vectors */
static void multiply_matrices(const float *a, int64_t a_stride, const float *b, float *out, int64_t stride,
                              int64_t rows, int64_t size, int64_t width) {
    for (int64_t k = 0; k < width; k += BLOCK)
        for (int64_t i = 0; i < rows; i += ROWS) {
            const float *from = a + i * a_stride;
            float *to = out + i * stride + k;
            int64_t here = smaller(rows - i, ROWS);
            if (here == ROWS && width - k >= BLOCK)
                multiply_rows(from, a_stride, b + k, to, stride, size, ROWS, VECTORS);
            else
                for (int64_t j = 0; j < smaller(width - k, BLOCK); j += WIDTH)
                    for (int64_t r = 0; r < here; r++)
                        multiply_rows(from + r * a_stride, a_stride, b + k + j, to + r * stride + j, stride,
                                      size, 1, 1);
        }
}

static void multiply_squares(Square a, Square b, Square out, int64_t size) {
    multiply_matrices(a[0], SIDE, b[0], out[0], SIDE, size, size, PADDED(size));
}

/* G = x x^T */
static void gram_matrix(const float *x, int64_t rows, int64_t columns, Square gram) {
    memset(gram, 0, sizeof(Square));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j <= i; j++) {
            Vector total = zero();
            for (int64_t k = 0; k < columns; k += WIDTH)
                total = multiply_add(load_first(x + i * columns + k, columns - k),
                                     load_first(x + j * columns + k, columns - k), total);
            gram[i][j] = gram[j][i] = sum(total);
        }
}

/* Iterate on G alone: with P = a + b G + c G^2, the factor becomes P times it, and G becomes P G P. */
static void iterate(Square gram, Square factor, int64_t size, int64_t steps, float a, float b, float c) {
    ALIGNED Square polynomial, product;
    memset(factor, 0, sizeof(Square));
    for (int64_t i = 0; i < size; i++)
        factor[i][i] = 1;
    for (int64_t step = 0; step < steps; step++) {
        multiply_squares(gram, gram, polynomial, size);
        for (int64_t i = 0; i < size; i++) {
            for (int64_t j = 0; j < PADDED(size); j++)
                polynomial[i][j] = fmaf(c, polynomial[i][j], b * gram[i][j]);
            polynomial[i][i] += a;
        }
        multiply_squares(polynomial, factor, product, size);
        memcpy(factor, product, sizeof(Square));
        multiply_squares(gram, polynomial, product, size);
        multiply_squares(polynomial, product, gram, size);
    }
}

/* x = factor x */
static void multiply_in_place(Square factor, float *x, int64_t rows, int64_t columns) {
    ALIGNED float copy[SIDE][BLOCK], product[SIDE][BLOCK];
    memset(copy, 0, sizeof copy);
    for (int64_t k = 0; k < columns; k += BLOCK) {
        int64_t bytes = smaller(columns - k, BLOCK) * sizeof(float);
        for (int64_t r = 0; r < rows; r++)
            memcpy(copy[r], x + r * columns + k, bytes);
        multiply_matrices(factor[0], SIDE, copy[0], product[0], BLOCK, rows, rows, BLOCK);
        for (int64_t r = 0; r < rows; r++)
            memcpy(x + r * columns + k, product[r], bytes);
    }
}

/* Newton-Schulz iteration x <- (a + b G + c G^2) x with G = x x^T, in place, after division of x by its
   norm; up to `at_once` steps in a row run on G alone. x [rows][columns] has at most SIDE rows. */
void orthogonalize(float *x, int64_t rows, int64_t columns, int64_t steps, int64_t at_once, float a,
                   float b, float c) {
    ALIGNED Square gram, factor;
    for (int64_t done = 0; done < steps; done += at_once) {
        float norm = 0;
        gram_matrix(x, rows, columns, gram);
        for (int64_t i = 0; i < rows; i++)
            norm += gram[i][i];
        norm = done ? 1 : sqrtf(norm) + 1e-7f;
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < rows; j++)
                gram[i][j] /= norm * norm;
        iterate(gram, factor, rows, smaller(at_once, steps - done), a, b, c);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < rows; j++)
                factor[i][j] /= norm;
        multiply_in_place(factor, x, rows, columns);
    }
}
