/* Passes over whole tensors that torch would make in several: batches, updates, devices.

   Compiled without contraction: where a product and a sum are rounded once, fmaf says so. The
   results are then, bit for bit, those of the torch calls that these functions stand for. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INTERFACE 1 /* counts the changes of what interface.py describes */
#define AHEAD 4     /* rows */

int64_t interface(void) { return INTERFACE; }

/* out[i][j] = pixels[indices[i]][j] * scale - shift; 0 if an index is out of range, else 1 */
int pixels_to_inputs(const uint8_t *pixels, int64_t images, int64_t size, const int64_t *indices,
                     int64_t count, float scale, float shift, float *out) {
    for (int64_t i = 0; i < count; i++)
        if (indices[i] < 0 || indices[i] >= images)
            return 0;
    for (int64_t i = 0; i < count; i++) {
        const uint8_t *row = pixels + indices[i] * size;
        if (i + AHEAD < count) /* rows lie far apart: memory is told before they are needed */
            for (int64_t j = 0; j < size + 63; j += 64)
                __builtin_prefetch(pixels + indices[i + AHEAD] * size + (j < size ? j : size - 1));
        for (int64_t j = 0; j < size; j++)
            out[i * size + j] = (float)row[j] * scale - shift;
    }
    return 1;
}

/* weight += minus_rate * v where v > 0, minus_rate * (v * ratio) elsewhere; v is the gradient or,
   where velocity is not null, velocity = velocity * momentum + gradient */
void asymmetric_sgd(float *restrict weight, const float *restrict gradient, float *restrict velocity,
                    int64_t count, float momentum, float minus_rate, float ratio) {
    if (velocity)
        for (int64_t i = 0; i < count; i++) {
            float v = velocity[i] = velocity[i] * momentum + gradient[i];
            weight[i] = fmaf(minus_rate, v * (v > 0 ? 1 : ratio), weight[i]);
        }
    else
        for (int64_t i = 0; i < count; i++) {
            float v = gradient[i];
            weight[i] = fmaf(minus_rate, v * (v > 0 ? 1 : ratio), weight[i]);
        }
}

static inline float on_level(float level, float W_min, float W_max, float step) {
    float w = fmaf(step, level, W_min);
    w = w < W_min ? W_min : w; /* NaN stays NaN */
    return w > W_max ? W_max : w;
}

/* w becomes W_min + step * round(offset + slope * w), half-way values to the even level */
void round_nearest(float *w, int64_t count, float offset, float slope, float W_min, float W_max,
                   float step) {
    for (int64_t i = 0; i < count; i++)
        w[i] = on_level(nearbyintf(fmaf(slope, w[i], offset)), W_min, W_max, step);
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

/* w becomes W_min + step * floor(uniform + slope * w + offset), where uniform = lowest + 2^-16 * one
   of the four int16 of a step of each generator in lanes[0:ceil(count / 4)] */
void round_stochastic(float *restrict w, int64_t count, float offset, float slope, float W_min, float W_max,
                      float step, uint64_t *restrict lanes, float lowest) {
    for (; count > 0; count -= 4 * LANES, w += 4 * LANES, lanes += LANES) {
        int64_t here = count < 4 * LANES ? count : 4 * LANES;
        /* two calls, so that the one for whole blocks has a constant length */
        Bits bits = here == 4 * LANES ? draw(lanes, LANES) : draw(lanes, (here + 3) / 4);
        for (int64_t i = 0; i < here; i++) {
            float level = fmaf(slope, w[i], fmaf(0x1p-16f, bits.numbers[i], lowest));
            w[i] = on_level(floorf(level + offset), W_min, W_max, step);
        }
    }
}

/* How many are not the background. */
int64_t unlike(const float *x, int64_t count, float background) {
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++)
        found += x[i] != background;
    return found;
}

/* In how many rows of logits [samples][classes] the label's is the first of the largest. */
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

/* Euclidean norm. */
float norm(const float *x, int64_t count) {
    enum { SUMS = 64 }; /* side by side */
    float sums[SUMS] = {0};
    int64_t i = 0;
    for (; i + SUMS <= count; i += SUMS)
        for (int j = 0; j < SUMS; j++)
            sums[j] = fmaf(x[i + j], x[i + j], sums[j]);
    double total = 0;
    for (; i < count; i++)
        total += (double)x[i] * x[i];
    for (int j = 0; j < SUMS; j++)
        total += sums[j];
    return (float)sqrt(total);
}
