/* Linear layers in memory; all numbers are float32. */
#ifndef LINEAR_LAYERS_H
#define LINEAR_LAYERS_H

#include <stdint.h>

/* A weight matrix or bias: gain * (plus - minus), or plus where minus is null. */
typedef struct {
    const float *plus, *minus;
    float *plus_gradient, *minus_gradient;
    float gain;
} Weight;

#define SMALLEST_RANGE 0x1p-100f /* so that steps / range is finite, as in converters.py */

/* How the product of inputs x and weights comes out of an array of devices:

       voltages = limited(rounded(x to_voltage))
       currents = (sum over weights times voltages) to_current + noise
       product = limited(rounded(currents to_digit)) from_digit to_output

   rounded(v) is floor(v + 1/2), or v. Of each sample with a range of its own, its largest |x|, at least
   SMALLEST_RANGE, or 1 if all are 0, to_voltage is steps / range and to_output is range / steps / to_current. */
typedef struct {
    int64_t own_range, rounds_inputs, rounds_outputs;
    float steps, to_voltage, lowest, highest;
    float to_current, to_digit, largest_digit, from_digit, to_output;
    float output_noise, read_noise; /* deviations: of a current, and of what a weight adds per voltage */
    uint64_t seed;                  /* of the noise */
} ArrayReading;

typedef struct {
    int64_t inputs, outputs;
    Weight weight, bias; /* [outputs][inputs], [outputs] */
    const ArrayReading *reading; /* of the product before the bias; null: it is exact */
} LinearLayer;

#endif
