/* The ends of an array: from inputs to voltages, from currents to outputs. */
#ifndef ARRAY_READING_H
#define ARRAY_READING_H

#include "linear_layers.h"
#include "vectors.h"

/* What differs from sample to sample. */
typedef struct {
    float to_voltage, to_output, noise; /* the deviation of its currents */
} Drive;

INLINE Vector rounded(Vector v) { return round_down(add(v, broadcast(0.5f))); }

INLINE Vector voltage(const ArrayReading *r, float to_voltage, Vector x) {
    Vector v = multiply(x, broadcast(to_voltage));
    if (r->rounds_inputs)
        v = rounded(v);
    return least(broadcast(r->highest), larger(broadcast(r->lowest), v)); /* NaN stays NaN */
}

/* The drive of a sample x[0:inputs]. */
Drive drive(const ArrayReading *reading, const float *x, int64_t inputs);

/* Turn the sums y[0:outputs, padded to whole vectors] of sample b into the product. */
void convert(const ArrayReading *reading, const Drive *drive, int64_t b, int64_t outputs, float *y);

#endif
