/* Pulses given to devices one at a time. First the pulses of some devices are found, then the devices that get
   any are worked through side by side. Every device has random generators of its own, so that neither threads
   nor the width of a vector change a result. */
#include <math.h>

#include "random_vectors.h"
#include "step_devices.h"
#include "threads.h"

#define KEYS 32 /* numbers of pulses that devices are sorted by */

INLINE Vector at(Number number, const int32_t *devices) {
    return number.each ? gather(number.each, devices) : broadcast(number.all);
}
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

/* WIDTH of the places in a list, from `from` on; the last one fills up. */
INLINE void some_of(const int32_t *list, int64_t from, int64_t count, int32_t *places) {
    for (int64_t lane = 0; lane < WIDTH; lane++)
        places[lane] = list[smaller(from + lane, count - 1)];
}

static void scatter(float *x, const int32_t *places, Vector v, int64_t count) {
    for (int64_t lane = 0; lane < smaller(count, WIDTH); lane++)
        x[places[lane]] = v[lane];
}

/* WIDTH devices after their pulses, those below 0 down; where these are NaN, so is w. */
INLINE Vector after(const StepDevices *d, const int32_t *devices, Vector w, Vector pulses, uint64_t seed) {
    const Vector low = at(d->W_min, devices), high = at(d->W_max, devices), offset = at(d->offset, devices);
    const Vector scale = choose(pulses, at(d->up.scale, devices), at(d->down.scale, devices));
    const Vector constant = choose(pulses, at(d->up.constant, devices), at(d->down.constant, devices));
    const Vector slope = choose(pulses, at(d->up.slope, devices), at(d->down.slope, devices));
    const Vector third = choose(pulses, at(d->up.third, devices), at(d->down.third, devices));
    Generators g = generators(seed, bits_at(devices));
    Vector left = least(broadcast((float)d->most), magnitude(pulses));
    for (left = choose(left, left, zero()); above(left, zero()); left = left - broadcast(1)) {
        Vector size = larger(zero(), shape_at(d->shape, multiply_add(slope, w, constant), third));
        if (d->step_noise > 0)
            size = multiply_add(size * broadcast(d->step_noise), normal(&g), size);
        size = size + offset;
        if (d->offset_noise > 0)
            size = multiply_add(broadcast(d->offset_noise), normal(&g), size);
        w = choose(left, within(multiply_add(scale, size, w), low, high), w);
    }
    return unless_nan(pulses, pulses, w);
}

/* Give a turn, to devices that get as many pulses side by side. */
static void give_turn(const StepDevices *d, float *w, const Turn *turn, uint64_t seed) {
    int64_t ends[KEYS + 1] = {0};
    int32_t key[MOST_DEVICES], devices[MOST_DEVICES];
    float pulses[MOST_DEVICES];
    for (int64_t k = 0; k < turn->count; k++) {
        float asked = turn->pulses[k], given = fminf(fabsf(asked), (float)d->most);
        given = asked == asked ? given : 0;
        key[k] = (int32_t)fminf(given, KEYS - 1);
        ends[key[k] + 1]++;
        int32_t *counted = d->counts ? d->counts + turn->devices[k] : 0;
        if (counted)
            *counted = (int32_t)smaller(*counted + (int64_t)given, INT32_MAX);
    }
    for (int64_t k = 0; k < KEYS; k++)
        ends[k + 1] += ends[k];
    for (int64_t k = 0; k < turn->count; k++) {
        int64_t place = ends[key[k]]++;
        devices[place] = turn->devices[k];
        pulses[place] = turn->pulses[k];
    }
    for (int64_t k = 0; k < turn->count; k += WIDTH) {
        int32_t some[WIDTH];
        some_of(devices, k, turn->count, some);
        Vector of_some = load_first(pulses + k, turn->count - k);
        scatter(w, some, after(d, some, gather(w, some), of_some, seed), turn->count - k);
    }
}

/* Draw what is read of devices that were written. */
static void read_anew(const StepDevices *d, float *w, const Turn *first, uint64_t seed) {
    for (int64_t k = 0; k < first->count; k += WIDTH) {
        int32_t some[WIDTH];
        some_of(first->devices, k, first->count, some);
        Generators g = generators(seed, bits_at(some));
        Vector written = gather(w, some), noise = broadcast(d->write_noise) * normal(&g);
        Vector read = within(written + noise, at(d->W_min, some), at(d->W_max, some));
        scatter(d->write_offset, some, read - written, first->count - k);
        scatter(w, some, read, first->count - k);
    }
}

/* Give pulses, turn after turn. Each device is in a turn once, and in the first if it is in any. The seed's
   upper 12 bits are used here. */
void give_pulses(const StepDevices *d, float *w, const Turn *turns, int64_t count, uint64_t seed) {
    if (!turns->count)
        return;
    for (int64_t k = 0; d->write_offset && k < turns->count; k++) /* pulses act on what lies below */
        w[turns->devices[k]] -= d->write_offset[turns->devices[k]];
    for (int64_t t = 0; t < count; t++)
        give_turn(d, w, &turns[t], seed + ((uint64_t)(t + 1) << 52));
    if (d->write_offset)
        read_anew(d, w, turns, seed + ((uint64_t)(count + 1) << 52));
}

typedef struct {
    const StepDevices *devices;
    float *w;
    const float *before, *factor; /* or null */
    float *remainder, D;
    int64_t rounding;
    uint64_t seed;
} Batch;

/* Round what is asked of WIDTH devices from i on to whole pulses. */
INLINE Vector rounded(const Batch *b, int64_t i, int64_t lanes, Vector asked) {
    if (b->factor)
        asked = asked * load_first(b->factor + i, lanes);
    asked = asked / broadcast(b->D);
    if (b->rounding == TO_NEAREST)
        return round_even(asked);
    if (b->rounding == STOCHASTIC) {
        Generators g = generators(b->seed, counting_up(i));
        return round_down(asked + uniform(&g));
    }
    Vector held = asked + load_first(b->remainder + i, lanes);
    Vector whole = with_sign(round_down(magnitude(held)), held);
    store_first(b->remainder + i, held - whole, lanes);
    return whole;
}

/* At most MOST_DEVICES. */
static void devices_of_batch(const void *task, int64_t from, int64_t to) {
    const Batch b = *(const Batch *)task;
    const StepDevices *d = b.devices;
    float pulses[MOST_DEVICES], values[MOST_DEVICES + WIDTH];
    int32_t places[MOST_DEVICES + WIDTH];
    for (int64_t i = from; i < to; i += WIDTH) {
        int64_t lanes = to - i;
        Vector before = load_first(b.before + i, lanes), whole = load_first(b.w + i, lanes) - before;
        if (unlike_zero(whole)) {
            whole = rounded(&b, i, lanes, whole);
            store_first(b.w + i, before, lanes);
            whole = d->up_only ? larger(zero(), whole) : whole;
        }
        store(pulses + i - from, whole);
    }
    int64_t count = nonzeros(pulses, to - from, values, places);
    for (int64_t k = 0; k < count; k++)
        places[k] += (int32_t)from;
    give_pulses(d, b.w, &(Turn){count, places, values}, 1, b.seed);
}

/* Round (w - before) * factor / D, with ACCUMULATE together with the remainder, to whole pulses, and let w be
   what the devices at `before` make of them. */
void program_batch(const StepDevices *devices, float *w, const float *before, const float *factor,
                   float *remainder, int64_t count, float D, int64_t rounding, uint64_t seed,
                   int64_t threads) {
    Batch all = {devices, w, before, factor, remainder, D, rounding, seed};
    share(devices_of_batch, &all, count, MOST_DEVICES, threads, LET_SLEEP);
}
