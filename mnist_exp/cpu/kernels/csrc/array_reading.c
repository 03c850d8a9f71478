/* What happens to a sample at the ends of an array; linear_layers.h has the formulas. */
#include <math.h>

#include "array_reading.h"
#include "interface.h"
#include "random_vectors.h"
#include "threads.h"

static float largest_size(const float *x, int64_t count) {
    Vector found = zero();
    for (int64_t i = 0; i < count; i += WIDTH) {
        Vector v = load_first(x + i, count - i);
        found = larger(larger(v, subtract(zero(), v)), found); /* passes over NaN */
    }
    float largest = 0;
    for (int i = 0; i < WIDTH; i++)
        largest = found[i] > largest ? found[i] : largest;
    return largest;
}

/* A row of standard normal numbers, from a generator for each column of 16: the same whatever WIDTH is. */
enum { COLUMNS = 16, VECTORS = COLUMNS / WIDTH };
typedef struct {
    Generators of[VECTORS];
} Noise;

INLINE Noise noise(uint64_t seed, int64_t row) {
    Noise found;
    for (int i = 0; i < VECTORS; i++)
        found.of[i] = generators(seed, counting_up(row * COLUMNS + i * WIDTH));
    return found;
}

/* The numbers of elements i, i + 1, ... of the row, for i = 0, WIDTH, ... in turn. */
INLINE Vector next(Noise *noise, int64_t i) { return normal(&noise->of[i / WIDTH % VECTORS]); }

Drive drive(const ArrayReading *reading, const float *x, int64_t inputs) {
    Drive found = {reading->to_voltage, reading->to_output, reading->output_noise};
    if (reading->own_range) {
        float largest = largest_size(x, inputs), range = largest > 0 ? fmaxf(largest, SMALLEST_RANGE) : 1;
        found.to_voltage = 1 / range * reading->steps; /* rounded twice, as in torch */
        found.to_output = range / reading->steps / reading->to_current;
    }
    if (reading->read_noise > 0) { /* independent noise of the devices, times the voltages */
        Vector squares = zero();
        for (int64_t k = 0; k < inputs; k += WIDTH) {
            Vector v = voltage(reading, found.to_voltage, load_first(x + k, inputs - k));
            squares = multiply_add(v, v, squares);
        }
        found.noise = sqrtf(reading->output_noise * reading->output_noise
                            + reading->read_noise * reading->read_noise * sum(squares));
    }
    return found;
}

void convert(const ArrayReading *r, const Drive *drive, int64_t b, int64_t outputs, float *y) {
    Noise of_sample = noise(r->seed, b);
    for (int64_t o = 0; o < outputs; o += WIDTH) {
        Vector v = multiply(load(y + o), broadcast(r->to_current));
        if (drive->noise > 0)
            v = multiply_add(next(&of_sample, o), broadcast(drive->noise), v);
        v = multiply(v, broadcast(r->to_digit));
        if (r->rounds_outputs)
            v = rounded(v);
        v = least(broadcast(r->largest_digit), larger(broadcast(-r->largest_digit), v));
        v = multiply(multiply(v, broadcast(r->from_digit)), broadcast(drive->to_output));
        store_first(y + o, v, outputs - o); /* the padding stays 0 */
    }
}

typedef struct {
    float *out;
    int64_t count;
    uint64_t seed;
} Normals;

enum { BLOCK = 1024 }; /* whole rows of COLUMNS */

static void some_normals(const void *task, int64_t from, int64_t to) {
    const Normals *normals = task;
    for (int64_t block = from; block < to; block++) {
        Noise of_block = noise(normals->seed, block);
        int64_t first = block * BLOCK, count = smaller(normals->count - first, BLOCK);
        for (int64_t i = 0; i < count; i += WIDTH)
            store_first(normals->out + first + i, next(&of_block, i), count - i);
    }
}

/* Set out[0:count] to standard normal numbers, the same for any number of threads. */
void normals(float *out, int64_t count, uint64_t seed, int64_t threads) {
    Normals all = {out, count, seed};
    share(some_normals, &all, (count + BLOCK - 1) / BLOCK, 8, threads, LET_SLEEP); /* some microseconds */
}
