/* Pulses of an update, and of each sample's own, given to devices one at a time. A vector holds devices
   side by side; each has a random generator of its own, so that threads change no result. */
#include <math.h>

#include "random_vectors.h"
#include "step_devices.h"
#include "threads.h"

#define DEVICES 1024 /* a piece of work */
#define SAMPLES 128  /* whose inputs are packed at a time */

INLINE Vector at(Number number, int64_t i, int64_t lanes) {
    return number.each ? load_first(number.each + i, lanes) : broadcast(number.all);
}

INLINE Vector magnitude(Vector v) { return (Vector)((Bits)v & 0x7FFFFFFFu); }
INLINE Vector with_sign(Vector v, Vector sign) { return (Vector)((Bits)v | ((Bits)sign & 0x80000000u)); }
INLINE Vector within(Vector w, Vector low, Vector high) { return least(high, larger(low, w)); }

INLINE Vector shape_at(int64_t shape, Vector line, Vector third) {
    if (shape == EXPONENTIAL)
        return broadcast(1) - third * exponential(line);
    if (shape == POWER) {
        line = within(line, zero(), broadcast(1));
        return exponential(third * choose(line - broadcast(1e-37f), logarithm(line), broadcast(-1e30f)));
    }
    return line;
}

static void count_pulses(int32_t *counts, const Vector *pulses, int64_t lanes) {
    for (int64_t lane = 0; lane < lanes; lane++)
        counts[lane] = (int32_t)smaller((int64_t)counts[lane] + (int64_t)(*pulses)[lane], INT32_MAX);
}

/* Give whole pulses, those below 0 down, to devices i to i + lanes at w; where they are NaN, so is w. */
static Vector give(const StepDevices *d, int64_t i, int64_t lanes, Vector w, Vector pulses, Generators *g) {
    Vector low = at(d->W_min, i, lanes), high = at(d->W_max, i, lanes), offset = at(d->offset, i, lanes);
    Vector scale = choose(pulses, at(d->up.scale, i, lanes), at(d->down.scale, i, lanes));
    Vector constant = choose(pulses, at(d->up.constant, i, lanes), at(d->down.constant, i, lanes));
    Vector slope = choose(pulses, at(d->up.slope, i, lanes), at(d->down.slope, i, lanes));
    Vector third = choose(pulses, at(d->up.third, i, lanes), at(d->down.third, i, lanes));
    Vector left = least(broadcast((float)d->most), d->up_only ? pulses : magnitude(pulses));
    left = choose(left, left, zero()); /* 0 for NaN */
    Vector given = left, below = zero();
    if (d->write_offset) {
        below = load_first(d->write_offset + i, lanes);
        w = w - choose(given, below, zero());
    }
    for (; above(left, zero()); left = left - broadcast(1)) {
        Vector size = larger(zero(), shape_at(d->shape, multiply_add(slope, w, constant), third));
        if (d->step_noise > 0)
            size = multiply_add(size * broadcast(d->step_noise), normal(g), size);
        size = size + offset;
        if (d->offset_noise > 0)
            size = multiply_add(broadcast(d->offset_noise), normal(g), size);
        w = choose(left, within(multiply_add(scale, size, w), low, high), w);
    }
    if (d->write_offset) {
        Vector read = within(multiply_add(broadcast(d->write_noise), normal(g), w), low, high);
        store_first(d->write_offset + i, choose(given, read - w, below), lanes);
        w = choose(given, read, w);
    }
    if (d->counts)
        count_pulses(d->counts + i, &given, lanes);
    return unless_nan(pulses, pulses, w);
}

typedef struct {
    const StepDevices *devices;
    float *w;
    const float *before, *factor; /* or null */
    float *remainder, D;
    int64_t rounding;
    uint64_t seed;
} Batch;

static void devices_of_batch(const void *task, int64_t from, int64_t to) {
    const Batch b = *(const Batch *)task;
    for (int64_t i = from; i < to; i += WIDTH) {
        int64_t lanes = to - i;
        Vector before = load_first(b.before + i, lanes), asked = load_first(b.w + i, lanes) - before;
        if (!unlike_zero(asked))
            continue;
        asked = asked * at((Number){b.factor, 1}, i, lanes) / broadcast(b.D);
        Generators g = generators(b.seed, i);
        if (b.rounding == ACCUMULATE) {
            Vector held = asked + load_first(b.remainder + i, lanes);
            asked = with_sign(round_down(magnitude(held)), held);
            store_first(b.remainder + i, held - asked, lanes);
        } else
            asked = b.rounding == STOCHASTIC ? round_down(asked + uniform(&g)) : round_even(asked);
        Vector w = unlike_zero(asked) ? give(b.devices, i, lanes, before, asked, &g) : before;
        store_first(b.w + i, w, lanes);
    }
}

/* Round (w - before) * factor / D, with ACCUMULATE together with the remainder, to whole pulses, and let w be
   what the devices at `before` make of them. */
void program_batch(const StepDevices *devices, float *w, const float *before, const float *factor,
                   float *remainder, int64_t count, float D, int64_t rounding, uint64_t seed,
                   int64_t threads) {
    Batch all = {devices, w, before, factor, remainder, D, rounding, seed};
    share(devices_of_batch, &all, count, DEVICES, threads, LET_SLEEP);
}

typedef struct {
    const StepDevices *devices;
    float *w;
    const float *factor;          /* or null */
    const float *inputs, *errors; /* [samples][in], [out][all samples] */
    int64_t first, samples, all_samples, in, out;
    float slope, ratio;
    int64_t rounding;
    uint64_t seed;
} Samples;

/* A device rounds up when the share of chances at which it has not, the product of 1 - p over samples asking
   for p pulses, reaches a number drawn in advance: with the probability p, as if drawn for every sample. */
typedef struct {
    Generators generators;
    Vector not_yet, drawn;
} Chance;

static void begin(Chance *chance, Vector where) {
    chance->not_yet = choose(where, broadcast(1), chance->not_yet);
    chance->drawn = choose(where, uniform(&chance->generators), chance->drawn);
}

/* A sample asks devices i to i + lanes for `asked` pulses; one of them may get some. */
static __attribute__((noinline)) void respond(const Samples *s, int64_t i, int64_t lanes, Vector asked,
                                              Chance *chance) {
    Vector p = least(broadcast((float)s->devices->most), magnitude(asked)), whole = round_even(p);
    if (s->rounding == STOCHASTIC) {
        whole = round_down(p);
        chance->not_yet = chance->not_yet * (broadcast(1) - (p - whole));
        Vector left = chance->not_yet - chance->drawn;
        Vector more = choose(left, zero(), broadcast(1)); /* 1 for NaN */
        whole = whole + more;
        begin(chance, more);
    }
    if (unlike_zero(whole))
        store_first(s->w + i, give(s->devices, i, lanes, load_first(s->w + i, lanes), with_sign(whole, asked),
                                   &chance->generators), lanes);
}

/* All samples' pulses of the devices of input lines [from, to) * WIDTH. */
static void devices_of_lines(const void *task, int64_t from, int64_t to) {
    const Samples s = *(const Samples *)task;
    const Vector minus_ratio = broadcast(-s.ratio);
    Vector lines[SAMPLES];
    int64_t sample[SAMPLES];
    for (int64_t line = from * WIDTH; line < to * WIDTH; line += WIDTH) {
        int64_t lanes = s.in - line, found = 0;
        for (int64_t n = 0; n < s.samples; n++) {
            Vector x = load_first(s.inputs + n * s.in + line, lanes);
            lines[found] = x * broadcast(s.slope);
            sample[found] = n;
            found += unlike_zero(x) != 0;
        }
        for (int64_t o = 0; o < s.out && found; o++) {
            int64_t i = s.first + o * s.in + line;
            const float *errors = s.errors + o * s.all_samples;
            Vector factor = at((Number){s.factor, 1}, i, lanes);
            Chance chance = {generators(s.seed, i), zero(), zero()};
            begin(&chance, broadcast(1));
            for (int64_t n = 0; n < found; n++) {
                Vector asked = lines[n] * broadcast(errors[sample[n]]) * factor;
                Vector down = asked * minus_ratio, p = larger(asked, down);
                Vector not_yet = chance.not_yet - chance.not_yet * p;
                int none = s.rounding == STOCHASTIC ? above(not_yet, chance.drawn) == ALL_ABOVE
                                                    : !unlike_zero(round_even(p));
                if (none)
                    chance.not_yet = not_yet;
                else
                    respond(&s, i, lanes, choose(asked, asked, zero() - down), &chance);
            }
        }
    }
}

/* Let every sample in turn ask the devices [out][in] from `first` on for
   slope * input * error * factor pulses, `ratio` times as many where that is below 0. */
void program_samples(const StepDevices *devices, float *w, int64_t first, const float *factor,
                     const float *inputs, const float *errors, int64_t samples, int64_t in, int64_t out,
                     float slope, float ratio, int64_t rounding, uint64_t seed, int64_t threads) {
    for (int64_t n = 0; n < samples; n += SAMPLES) {
        Samples some = {devices, w, factor, inputs + n * in, errors + n, first,
                        smaller(samples - n, SAMPLES), samples, in, out, slope, ratio, rounding,
                        seed + ((uint64_t)n << 32)};
        share(devices_of_lines, &some, (in + WIDTH - 1) / WIDTH, 1, threads, LET_SLEEP);
    }
}
