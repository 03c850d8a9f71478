/* Devices whose pulses come one at a time; see mnist_exp/device/step_model.py. */
#ifndef STEP_DEVICES_H
#define STEP_DEVICES_H

#include <stdint.h>

/* A number of every device, or one of all where `each` is null. */
typedef struct {
    const float *each;
    float all;
} Number;

/* shape(w), with line = constant + slope * w */
enum Shape {
    LINE,        /* line */
    EXPONENTIAL, /* 1 - third * exp(line) */
    POWER        /* line ** third, the line limited to [0, 1] */
};

typedef struct {
    Number scale, constant, slope, third;
} Direction;

/* A pulse adds scale * (max(shape(w), 0) * (1 + step_noise * xi) + offset + offset_noise * xi') to w, within
   the bounds. With write_offset, w lies above where pulses act by as much, and once written its devices are
   read at another w. */
typedef struct {
    int64_t shape, most; /* pulses at once, up to 2^24: they are counted down in float32 */
    Number W_min, W_max, offset;
    Direction up, down; /* the scale is negative down */
    float step_noise, offset_noise, write_noise; /* standard deviations; the last in units of w */
    float *write_offset; /* or null */
    int64_t up_only;     /* whether pulses down are dropped */
    int32_t *counts;     /* of pulses, added to; or null */
} StepDevices;

#define MOST_DEVICES 1024 /* in a turn */

/* Pulses for some devices, whole numbers, below 0 down. */
typedef struct {
    int64_t count;
    int32_t *devices;
    float *pulses;
} Turn;

void give_pulses(const StepDevices *devices, float *w, const Turn *turns, int64_t count, uint64_t seed);

enum PulseRounding { TO_NEAREST, STOCHASTIC, ACCUMULATE };

void program_batch(const StepDevices *devices, float *w, const float *before, const float *factor,
                   float *remainder, int64_t count, float D, int64_t rounding, uint64_t seed,
                   int64_t threads);
void program_samples(const StepDevices *devices, float *w, int64_t first, const float *factor,
                     const float *inputs, const float *errors, int64_t samples, int64_t in, int64_t out,
                     float slope, float ratio, int64_t rounding, uint64_t seed, int64_t threads);

#endif
