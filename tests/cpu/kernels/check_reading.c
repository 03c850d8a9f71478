/* Products read from arrays, and their noise. */
#include <math.h>

#include "harness.h"

static float limited(float v, float low, float high) { return v < low ? low : v > high ? high : v; }

/* Converters of some bits; factors are powers of 2, so that nothing but the converters rounds. */
static ArrayReading some_reading(Case *c) {
    ArrayReading r = {.own_range = below(c, 2), .rounds_inputs = below(c, 4) > 0, .rounds_outputs = below(c, 4) > 0,
                      .steps = 1 + (float)below(c, 7), .to_voltage = 0.75f, .lowest = -INFINITY, .highest = INFINITY,
                      .to_current = 0.25f, .to_digit = 0.5f, .largest_digit = INFINITY, .from_digit = 2,
                      .to_output = 3};
    if (below(c, 2))
        r.lowest = below(c, 2) ? 0 : -2, r.highest = 2;
    if (below(c, 2))
        r.largest_digit = 7;
    return r;
}

static void naive_product(const LinearLayer *layer, const float *x, int64_t samples, float *y) {
    const ArrayReading *r = layer->reading;
    for (int64_t b = 0; b < samples; b++, x += layer->inputs) {
        float range = 0, to_voltage = r->to_voltage, to_output = r->to_output;
        for (int64_t k = 0; k < layer->inputs; k++)
            range = fabsf(x[k]) > range ? fabsf(x[k]) : range;
        range = range > 0 ? fmaxf(range, SMALLEST_RANGE) : 1;
        if (r->own_range) {
            to_voltage = 1 / range * r->steps;
            to_output = range / r->steps / r->to_current;
        }
        for (int64_t o = 0; o < layer->outputs; o++) {
            float sum = 0;
            for (int64_t k = 0; k < layer->inputs; k++) {
                float v = x[k] * to_voltage;
                v = limited(r->rounds_inputs ? floorf(v + 0.5f) : v, r->lowest, r->highest);
                sum += v * layer->weight.plus[o * layer->inputs + k];
            }
            float digit = sum * r->to_current * r->to_digit;
            digit = r->rounds_outputs ? floorf(digit + 0.5f) : digit;
            *y++ = limited(digit, -r->largest_digit, r->largest_digit) * r->from_digit * to_output;
        }
    }
}

static void check_product(Case *c) {
    ArrayReading reading = some_reading(c);
    int64_t inputs = 1 + below(c, 200), outputs = 1 + below(c, 130), samples = below(c, 300);
    LinearLayer layer = {inputs, outputs, {.plus = integers(c, inputs * outputs, 1, 2)}, {.plus = 0}, &reading};
    if (!reading.rounds_inputs) /* else sums would round */
        reading.own_range = 0;
    float *x = integers(c, samples * inputs, 0.3f, 5), *y = room(c, samples * outputs, 4);
    float *scratch = room(c, linear_layers_scratch(&layer, 1, samples), 4);
    for (int64_t i = 0, tiny = below(c, 4) == 0; tiny && i < samples * inputs; i++)
        x[i] *= 0x1p-140f;
    read_product(&layer, x, samples, y, scratch, c->threads);
    take_in(c, y, samples * outputs, 4);
    if (c->compare) {
        float *want = room(c, samples * outputs, 4);
        naive_product(&layer, x, samples, want);
        expect_floats(c, "product read", y, want, samples * outputs);
    }
    reading.output_noise = 0.5f;
    reading.read_noise = below(c, 2) ? 0.1f : 0;
    reading.seed = draw(c);
    read_product(&layer, x, samples, y, scratch, c->threads);
    take_in(c, y, samples * outputs, 4);
}

/* Every input is 0, so that outputs are their noise. */
static void check_noise(Case *c) {
    enum { SAMPLES = 400, OUTPUTS = 37 };
    ArrayReading reading = {.steps = 1, .to_voltage = 1, .lowest = -1, .highest = 1, .to_current = 1,
                            .to_digit = 1, .largest_digit = INFINITY, .from_digit = 1, .to_output = 1,
                            .output_noise = 0.5f, .seed = draw(c)};
    LinearLayer layer = {1, OUTPUTS, {.plus = integers(c, OUTPUTS, 1, 2)}, {.plus = 0}, &reading};
    float *x = integers(c, SAMPLES, 0, 1), *y = room(c, SAMPLES * OUTPUTS, 4);
    read_product(&layer, x, SAMPLES, y, room(c, linear_layers_scratch(&layer, 1, SAMPLES), 4), c->threads);
    int64_t count = 20000 + below(c, 99);
    float *numbers = room(c, count, 4);
    normals(numbers, count, draw(c), c->threads);
    take_in(c, y, SAMPLES * OUTPUTS, 4);
    take_in(c, numbers, count, 4);
    double of_outputs = 0, of_numbers = 0, next = 0;
    for (int64_t i = 0; i < SAMPLES * OUTPUTS; i++)
        of_outputs += y[i] * y[i] / (SAMPLES * OUTPUTS);
    for (int64_t i = 0; i < count; i++) {
        of_numbers += numbers[i] * numbers[i] / (double)count;
        next += i ? numbers[i] * numbers[i - 1] / (double)count : 0;
    }
    expect(c, fabs(of_outputs - 0.25) < 0.02, "outputs have their noise");
    expect(c, fabs(of_numbers - 1) < 0.06 && fabs(next) < 0.04, "numbers are normal and independent");
}

void check_reading(Case *c) {
    check_product(c);
    check_noise(c);
    release(c);
}
