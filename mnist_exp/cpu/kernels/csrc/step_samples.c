/* Pulses of each sample's own update: those of a linear layer, without a gradient in memory. */
#include <math.h>

#include "random_vectors.h"
#include "step_devices.h"
#include "threads.h"

#define WORDS 2 /* of 64 samples each, worked through at a time */
#define SAMPLES (64 * WORDS)
#define WAITING 128 /* devices whose pulses are found before they get them */

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

/* Pulses found: those of turn 0 are the first of each device, and so on. */
typedef struct {
    int64_t count; /* turns */
    Turn turns[SAMPLES];
    int32_t devices[SAMPLES][WAITING];
    float pulses[SAMPLES][WAITING];
} Waiting;

static void flush(const Samples *s, Waiting *waiting) {
    if (waiting->count)
        give_pulses(s->devices, s->w, waiting->turns, waiting->count, s->seed);
    waiting->count = 0;
}

static void append(Waiting *waiting, int64_t turn, int32_t device, float pulses) {
    Turn *t = &waiting->turns[turn];
    if (turn == waiting->count) {
        waiting->count++;
        *t = (Turn){0, waiting->devices[turn], waiting->pulses[turn]};
    }
    t->devices[t->count] = device;
    t->pulses[t->count++] = pulses;
}

/* Find the pulses that the samples of `busy` ask of the WIDTH devices from i on, by their `lines` of inputs.

   A device rounds up when the share of chances at which it has not, the product of 1 - p over samples that
   ask for p pulses, reaches a number drawn in advance: with the probability p, as if drawn by each. */
static void find(const Samples *s, int64_t i, int64_t lanes, const Vector *lines, const uint64_t *used,
                 const uint64_t *busy, const float *errors, Waiting *waiting) {
    const Vector minus_ratio = broadcast(-s->ratio), most = broadcast((float)s->devices->most);
    const Vector factor = s->factor ? load_first(s->factor + i, lanes) : broadcast(1);
    const int stochastic = s->rounding == STOCHASTIC;
    int64_t turns[WIDTH] = {0};
    Generators g = generators(s->seed, counting_up(i));
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
            if (s->devices->up_only)
                whole = whole * choose(zero() - asked, zero(), broadcast(1));
            whole = with_sign(whole, asked);
            /* without inputs of 0, and so without places beyond the last line, where an endless error is NaN */
            for (unsigned bits = unlike_zero(whole) & unlike_zero(lines[n]); bits; bits &= bits - 1) {
                int lane = __builtin_ctz(bits);
                append(waiting, turns[lane]++, (int32_t)(i + lane), whole[lane]);
            }
        }
}

/* All samples' pulses of the devices of input lines [from, to) * WIDTH. */
static void devices_of_lines(const void *task, int64_t from, int64_t to) {
    const Samples s = *(const Samples *)task;
    Vector lines[SAMPLES];
    Waiting waiting;
    waiting.count = 0;
    for (int64_t line = from * WIDTH; line < to * WIDTH; line += WIDTH) {
        int64_t lanes = s.in - line;
        uint64_t used[WORDS] = {0};
        for (int64_t n = 0; n < s.samples; n++) {
            Vector x = load_first(s.inputs + n * s.in + line, lanes);
            lines[n] = x * broadcast(s.slope);
            used[n / 64] |= (uint64_t)(unlike_zero(x) != 0) << n % 64;
        }
        for (int64_t o = 0; o < s.out; o++) {
            if (waiting.count && waiting.turns[0].count > WAITING - WIDTH)
                flush(&s, &waiting);
            find(&s, s.first + o * s.in + line, lanes, lines, used, s.busy + o * WORDS,
                 s.errors + o * s.all_samples, &waiting);
        }
    }
    flush(&s, &waiting);
}

/* Let every sample in turn ask the devices [out][in] from `first` on for slope * input * error * factor
   pulses, `ratio` times as many where that is below 0. */
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
