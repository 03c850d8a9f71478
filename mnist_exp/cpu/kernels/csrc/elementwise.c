/* Single passes over tensors where torch needs several: batches, updates, devices.

   Compiled without contraction: only fmaf rounds a product and a sum once. So results equal, bit for
   bit, those of the torch calls that these functions replace. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "interface.h"
#include "threads.h"

#define AHEAD 4 /* images */
/* Pieces of work of about a microsecond, too small to wake a thread for. */
#define IMAGES 16
#define ELEMENTS 4096 /* a whole number of 4 * LANES */

int64_t interface(void) { return INTERFACE; }

typedef struct {
    const uint8_t *pixels;
    int64_t size;
    const int64_t *indices;
    float scale, shift, *out;
} Images;

static void images_to_inputs(const void *task, int64_t from, int64_t to) {
    const Images *images = task;
    int64_t size = images->size;
    for (int64_t i = from; i < to; i++) {
        const uint8_t *row = images->pixels + images->indices[i] * size;
        if (i + AHEAD < to) { /* rows lie far apart: prefetch */
            const uint8_t *later = images->pixels + images->indices[i + AHEAD] * size;
            for (int64_t j = 0; j < size + 63; j += 64)
                __builtin_prefetch(later + smaller(j, size - 1));
        }
        float *out = images->out + i * size;
        for (int64_t j = 0; j < size; j++)
            out[j] = (float)row[j] * images->scale - images->shift;
    }
}

/* out[i][j] = pixels[indices[i]][j] * scale - shift; 0 if an index is out of range, else 1 */
int pixels_to_inputs(const uint8_t *pixels, int64_t images, int64_t size, const int64_t *indices,
                     int64_t count, float scale, float shift, float *out, int64_t threads) {
    Images all = {pixels, size, indices, scale, shift, out};
    for (int64_t i = 0; i < count; i++)
        if (indices[i] < 0 || indices[i] >= images)
            return 0;
    share(images_to_inputs, &all, count, IMAGES, threads, LET_SLEEP);
    return 1;
}

typedef struct {
    float *weight, *velocity;
    const float *gradient;
    float momentum, minus_rate, ratio;
} Update;

static void update(const void *task, int64_t from, int64_t to) {
    const Update *u = task;
    float *restrict weight = u->weight, *restrict velocity = u->velocity;
    const float *restrict gradient = u->gradient;
    float momentum = u->momentum, minus_rate = u->minus_rate, ratio = u->ratio;
    if (velocity)
        for (int64_t i = from; i < to; i++) {
            float v = velocity[i] = velocity[i] * momentum + gradient[i];
            weight[i] = fmaf(minus_rate, v * (v > 0 ? 1 : ratio), weight[i]);
        }
    else
        for (int64_t i = from; i < to; i++) {
            float v = gradient[i];
            weight[i] = fmaf(minus_rate, v * (v > 0 ? 1 : ratio), weight[i]);
        }
}

/* weight += minus_rate * v where v > 0, minus_rate * (v * ratio) elsewhere; v is the gradient or,
   where velocity is not null, velocity = velocity * momentum + gradient */
void asymmetric_sgd(float *weight, const float *gradient, float *velocity, int64_t count, float momentum,
                    float minus_rate, float ratio, int64_t threads) {
    Update all = {weight, velocity, gradient, momentum, minus_rate, ratio};
    share(update, &all, count, ELEMENTS, threads, LET_SLEEP);
}

static inline float on_level(float level, float W_min, float W_max, float step) {
    float w = fmaf(step, level, W_min);
    w = w < W_min ? W_min : w; /* NaN stays NaN */
    return w > W_max ? W_max : w;
}

typedef struct {
    float *w, offset, slope, W_min, W_max, step;
    uint64_t *lanes; /* states of random generators; null for the nearest level */
    float lowest;
    float *before; /* null: moves are not counted */
    int32_t *moves;
    int keeps;
} Rounding;

static void to_nearest(const void *task, int64_t from, int64_t to) {
    const Rounding r = *(const Rounding *)task;
    for (int64_t i = from; i < to; i++)
        r.w[i] = on_level(nearbyintf(fmaf(r.slope, r.w[i], r.offset)), r.W_min, r.W_max, r.step);
}

/* w becomes W_min + step * round(offset + slope * w), ties to the even level */
void round_nearest(float *w, int64_t count, float offset, float slope, float W_min, float W_max,
                   float step, int64_t threads) {
    Rounding all = {w, offset, slope, W_min, W_max, step, 0, 0, 0, 0, 0};
    share(to_nearest, &all, count, ELEMENTS, threads, LET_SLEEP);
}

enum { LANES = 32 }; /* random generators that step together */
typedef union {
    uint64_t words[LANES];
    int16_t numbers[4 * LANES];
} Bits;

/* A step of `count` xorshift64 generators (at most LANES) and their bits. */
static inline Bits draw(uint64_t *lanes, int64_t count) {
    Bits bits;
    for (int64_t i = 0; i < count; i++) {
        uint64_t word = lanes[i];
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bits.words[i] = lanes[i] = word;
    }
    return bits;
}

/* `from` is a whole number of blocks of 4 * LANES. */
static void up_or_down(const void *task, int64_t from, int64_t to) {
    const Rounding r = *(const Rounding *)task;
    for (int64_t start = from; start < to; start += 4 * LANES) {
        float *w = r.w + start;
        uint64_t *lanes = r.lanes + start / 4;
        int64_t here = smaller(to - start, 4 * LANES);
        /* two calls, so that whole blocks have a constant length */
        Bits bits = here == 4 * LANES ? draw(lanes, LANES) : draw(lanes, (here + 3) / 4);
        for (int64_t i = 0; i < here; i++) {
            float level = fmaf(r.slope, w[i], fmaf(0x1p-16f, bits.numbers[i], r.lowest));
            w[i] = on_level(floorf(level + r.offset), r.W_min, r.W_max, r.step);
        }
    }
}

/* w becomes W_min + step * floor(uniform + slope * w + offset), where uniform = lowest + 2^-16 * one
   of the four int16 of a step of each generator in lanes[0:ceil(count / 4)] */
void round_stochastic(float *w, int64_t count, float offset, float slope, float W_min, float W_max,
                      float step, uint64_t *lanes, float lowest, int64_t threads) {
    Rounding all = {w, offset, slope, W_min, W_max, step, lanes, lowest, 0, 0, 0};
    share(up_or_down, &all, count, ELEMENTS, threads, LET_SLEEP);
}

/* Add the levels by which weights moved that were asked to. All are looked at alike: the few that moved
   would be as many cache misses, and branches that nobody foresees. */
static inline void add_moves(const Rounding *r, int64_t start, int64_t here, const float *asked) {
    const float *restrict w = r->w + start, *restrict before = r->before + start, by_level = 1 / r->step;
    int32_t *restrict moves = r->moves + start;
    for (int64_t i = 0; i < here; i++) {
        float levels = fabsf(w[i] - before[i]) * by_level;
        levels = asked[i] != before[i] && levels < 0x1p30f ? levels : 0; /* not NaN */
        uint32_t total = (uint32_t)moves[i] + (uint32_t)(int32_t)nearbyintf(levels);
        moves[i] = (int32_t)(total < INT32_MAX ? total : INT32_MAX);
    }
}

/* `from` is a whole number of blocks of 4 * LANES. */
static void round_and_count(const void *task, int64_t from, int64_t to) {
    const Rounding *r = task;
    float asked[4 * LANES];
    for (int64_t start = from; start < to; start += 4 * LANES) {
        int64_t end = smaller(start + 4 * LANES, to);
        memcpy(asked, r->w + start, sizeof(float) * (size_t)(end - start));
        (r->lanes ? up_or_down : to_nearest)(task, start, end);
        if (end - start == 4 * LANES) /* a call of its own has a constant length */
            add_moves(r, start, 4 * LANES, asked);
        else
            add_moves(r, start, end - start, asked);
        if (r->keeps) /* while they are at hand */
            memcpy(r->before + start, r->w + start, sizeof(float) * (size_t)(end - start));
    }
}

/* round_nearest, or with lanes round_stochastic; adds to moves by how many steps the weights moved
   from `before`, if w differed from it; if it `keeps`, before becomes w */
void round_counting_moves(float *w, float *before, int32_t *moves, int keeps, int64_t count, float offset,
                          float slope, float W_min, float W_max, float step, uint64_t *lanes,
                          float lowest, int64_t threads) {
    Rounding all = {w, offset, slope, W_min, W_max, step, lanes, lowest, before, moves, keeps};
    share(round_and_count, &all, count, ELEMENTS, threads, LET_SLEEP);
}

/* Count the elements that are not 0. */
int64_t nonzero(const float *x, int64_t count) {
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++)
        found += x[i] != 0;
    return found;
}

/* Count the rows of logits [samples][classes] whose first maximum is the label's. */
int64_t correct_predictions(const float *logits, const int64_t *labels, int64_t samples, int64_t classes) {
    int64_t correct = 0;
    for (int64_t i = 0; i < samples; i++, logits += classes) {
        int64_t predicted = 0;
        for (int64_t c = 1; c < classes; c++) {
            float z = logits[c], largest = logits[predicted];
            if (z > largest || (z != z && largest == largest)) /* NaN counts as the largest */
                predicted = c;
        }
        correct += predicted == labels[i];
    }
    return correct;
}

typedef struct {
    const float *x;
    int64_t count;
    double *squares; /* of each block of ELEMENTS, independent of the thread */
} Norm;

static void add_squares(const void *task, int64_t from, int64_t to) {
    enum { SUMS = 64 }; /* independent ones */
    const Norm *norm = task;
    for (int64_t block = from; block < to; block++) {
        int64_t i = block * ELEMENTS, end = smaller(i + ELEMENTS, norm->count);
        float sums[SUMS] = {0};
        double total = 0;
        for (; i + SUMS <= end; i += SUMS)
            for (int j = 0; j < SUMS; j++)
                sums[j] = fmaf(norm->x[i + j], norm->x[i + j], sums[j]);
        for (; i < end; i++)
            total += (double)norm->x[i] * norm->x[i];
        for (int j = 0; j < SUMS; j++)
            total += sums[j];
        norm->squares[block] = total;
    }
}

/* Euclidean norm. */
float norm(const float *x, int64_t count, int64_t threads) {
    int64_t blocks = (count + ELEMENTS - 1) / ELEMENTS;
    double squares[blocks ? blocks : 1], total = 0;
    Norm all = {x, count, squares};
    share(add_squares, &all, blocks, 1, threads, LET_SLEEP);
    for (int64_t i = 0; i < blocks; i++)
        total += squares[i];
    return (float)sqrt(total);
}
