/* Pulses of an update, and of each sample's own, given to devices one at a time. A vector holds devices
   side by side; each has a random generator of its own, so that threads change no result. */
#include <math.h>

#include "random_vectors.h"
#include "step_devices.h"
#include "threads.h"

#define DEVICES 1024 /* a piece of work */
#define WORDS 2      /* of 64 samples, worked through at a time */
#define SAMPLES (64 * WORDS)

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

typedef struct {
    Vector scale, constant, slope, third;
} Law;

INLINE Law law_at(const Direction *d, int64_t i, int64_t lanes) {
    return (Law){at(d->scale, i, lanes), at(d->constant, i, lanes), at(d->slope, i, lanes),
                 at(d->third, i, lanes)};
}

INLINE Law either(Vector sign, const Law *up, const Law *down) {
    return (Law){choose(sign, up->scale, down->scale), choose(sign, up->constant, down->constant),
                 choose(sign, up->slope, down->slope), choose(sign, up->third, down->third)};
}

static void count_pulses(int32_t *counts, const float *pulses, int64_t lanes) {
    for (int64_t lane = 0; lane < smaller(lanes, WIDTH); lane++)
        counts[lane] = (int32_t)smaller((int64_t)counts[lane] + (int64_t)pulses[lane], INT32_MAX);
}

/* Give whole pulses, turn after turn, to devices i to i + lanes at w; those below 0 down. Where they are NaN,
   so is w. */
static Vector give(const StepDevices *d, int64_t i, int64_t lanes, Vector w, const Vector *turns,
                   int64_t count, Generators *g) {
    const Vector low = at(d->W_min, i, lanes), high = at(d->W_max, i, lanes), offset = at(d->offset, i, lanes);
    const Law up = law_at(&d->up, i, lanes), down = law_at(&d->down, i, lanes);
    Vector below = d->write_offset ? load_first(d->write_offset + i, lanes) : zero(), given = zero();
    Vector at_last = w;
    w = w - below;
    for (int64_t turn = 0; turn < count; turn++) {
        Vector pulses = d->up_only ? larger(zero(), turns[turn]) : magnitude(turns[turn]);
        pulses = least(broadcast((float)d->most), pulses);
        given = given + pulses;
        const Law law = either(turns[turn], &up, &down);
        for (Vector left = choose(pulses, pulses, zero()); above(left, zero()); left = left - broadcast(1)) {
            Vector line = multiply_add(law.slope, w, law.constant);
            Vector size = larger(zero(), shape_at(d->shape, line, law.third));
            if (d->step_noise > 0)
                size = multiply_add(size * broadcast(d->step_noise), normal(g), size);
            size = size + offset;
            if (d->offset_noise > 0)
                size = multiply_add(broadcast(d->offset_noise), normal(g), size);
            w = choose(left, within(multiply_add(law.scale, size, w), low, high), w);
        }
    }
    if (d->write_offset) {
        Vector read = within(multiply_add(broadcast(d->write_noise), normal(g), w), low, high);
        store_first(d->write_offset + i, choose(given, read - w, below), lanes);
        w = read;
    }
    if (d->counts) {
        Vector counted = choose(given, given, zero());
        count_pulses(d->counts + i, (const float *)&counted, lanes);
    }
    return unless_nan(given, given, choose(given, w, at_last));
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
        if (b.rounding == ACCUMULATE) {
            Vector held = asked + load_first(b.remainder + i, lanes);
            asked = with_sign(round_down(magnitude(held)), held);
            store_first(b.remainder + i, held - asked, lanes);
            if (!unlike_zero(asked)) {
                store_first(b.w + i, before, lanes);
                continue;
            }
        }
        Generators g = generators(b.seed, i);
        asked = b.rounding == STOCHASTIC ? round_down(asked + uniform(&g)) : round_even(asked);
        Vector w = unlike_zero(asked) ? give(b.devices, i, lanes, before, &asked, 1, &g) : before;
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
    const uint64_t *busy;         /* [out][WORDS]: the samples with an error, a bit each */
    int64_t first, samples, all_samples, in, out;
    float slope, ratio;
    int64_t rounding;
    uint64_t seed;
} Samples;

/* Pulses of WIDTH devices: those of turn 0 are the first of every device. */
typedef struct {
    Vector turns[SAMPLES];
    int64_t count, of_device[WIDTH];
} Queue;

static void append(Queue *queue, const float *pulses, unsigned devices) {
    for (; devices; devices &= devices - 1) {
        int device = __builtin_ctz(devices);
        int64_t turn = queue->of_device[device]++;
        if (turn == queue->count)
            queue->turns[queue->count++] = zero();
        ((float *)&queue->turns[turn])[device] = pulses[device];
    }
}

/* Line up the pulses that the samples of `busy` ask of WIDTH devices, by their `lines` of inputs.

   A device rounds up when the share of chances at which it has not, the product of 1 - p over samples that
   ask for p pulses, reaches a number drawn in advance: with the probability p, as if drawn by each. */
static void line_up(const Samples *s, const Vector *lines, const uint64_t *used, const uint64_t *busy,
                    const float *errors, Vector factor, Generators *generators, Queue *queue) {
    const Vector minus_ratio = broadcast(-s->ratio), most = broadcast((float)s->devices->most);
    const int stochastic = s->rounding == STOCHASTIC;
    Generators g = *generators; /* in registers */
    Vector not_yet = broadcast(1), drawn = uniform(&g);
    for (int word = 0; word < WORDS; word++)
        for (uint64_t left = used[word] & busy[word]; left; left &= left - 1) {
            int64_t n = 64 * word + __builtin_ctzll(left);
            Vector asked = lines[n] * broadcast(errors[n]);
            if (s->factor)
                asked = asked * factor;
            Vector down = asked * minus_ratio, p = larger(asked, down), whole;
            if (stochastic) {
                Vector next = minus_product(not_yet, p, not_yet);
                if (above(next, drawn) == ALL_ABOVE) {
                    not_yet = next;
                    continue;
                }
                p = least(most, p);
                whole = round_down(p);
                not_yet = minus_product(not_yet, p - whole, not_yet);
                Vector more = choose(not_yet - drawn, zero(), broadcast(1)); /* 1 for NaN */
                whole = whole + more;
                not_yet = choose(more, broadcast(1), not_yet);
                drawn = choose(more, uniform(&g), drawn);
            } else
                whole = round_even(least(most, p));
            whole = choose(asked, whole, zero() - whole);
            append(queue, (const float *)&whole, unlike_zero(whole));
        }
    *generators = g;
}

/* All samples' pulses of the devices of input lines [from, to) * WIDTH. */
static void devices_of_lines(const void *task, int64_t from, int64_t to) {
    const Samples s = *(const Samples *)task;
    Vector lines[SAMPLES];
    for (int64_t line = from * WIDTH; line < to * WIDTH; line += WIDTH) {
        int64_t lanes = s.in - line;
        uint64_t used[WORDS] = {0};
        for (int64_t n = 0; n < s.samples; n++) {
            Vector x = load_first(s.inputs + n * s.in + line, lanes);
            lines[n] = x * broadcast(s.slope);
            used[n / 64] |= (uint64_t)(unlike_zero(x) != 0) << n % 64;
        }
        for (int64_t o = 0; o < s.out; o++) {
            int64_t i = s.first + o * s.in + line;
            Generators g = generators(s.seed, i);
            Queue queue;
            queue.count = 0;
            memset(queue.of_device, 0, sizeof queue.of_device);
            line_up(&s, lines, used, s.busy + o * WORDS, s.errors + o * s.all_samples,
                    at((Number){s.factor, 1}, i, lanes), &g, &queue);
            if (queue.count)
                store_first(s.w + i, give(s.devices, i, lanes, load_first(s.w + i, lanes), queue.turns,
                                          queue.count, &g), lanes);
        }
    }
}

/* Let every sample in turn ask the devices [out][in] from `first` on for
   slope * input * error * factor pulses, `ratio` times as many where that is below 0. */
void program_samples(const StepDevices *devices, float *w, int64_t first, const float *factor,
                     const float *inputs, const float *errors, int64_t samples, int64_t in, int64_t out,
                     float slope, float ratio, int64_t rounding, uint64_t seed, int64_t threads) {
    if (out < 1)
        return;
    uint64_t busy[out * WORDS];
    for (int64_t n = 0; n < samples; n += SAMPLES) {
        int64_t here = smaller(samples - n, SAMPLES);
        memset(busy, 0, sizeof busy);
        for (int64_t o = 0; o < out; o++)
            for (int64_t k = 0; k < here; k++)
                busy[o * WORDS + k / 64] |= (uint64_t)(errors[o * samples + n + k] != 0) << k % 64;
        Samples some = {devices, w, factor, inputs + n * in, errors + n, busy, first, here, samples,
                        in, out, slope, ratio, rounding, seed + ((uint64_t)n << 32)};
        share(devices_of_lines, &some, (in + WIDTH - 1) / WIDTH, 1, threads, LET_SLEEP);
    }
}
