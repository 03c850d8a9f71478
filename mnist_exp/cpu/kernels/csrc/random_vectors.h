/* Exponentials, logarithms and random numbers, a vector at a time. */
#ifndef RANDOM_VECTORS_H
#define RANDOM_VECTORS_H

#include <math.h>
#include <string.h>

#include "vectors.h"

/* Compilers know arithmetic on these types and on Vector; a cast keeps the bits. */
typedef uint32_t Bits __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Integers __attribute__((vector_size(4 * WIDTH)));

INLINE Bits bits_at(const void *p) {
    Bits bits;
    memcpy(&bits, p, sizeof bits);
    return bits;
}

/* first, first + 1, ... */
INLINE Bits counting_up(int64_t first) {
    static const uint32_t count[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return bits_at(count) + (uint32_t)first;
}

INLINE Vector magnitude(Vector v) { return (Vector)((Bits)v & 0x7FFFFFFFu); }
INLINE Vector with_sign(Vector v, Vector sign) { return (Vector)((Bits)v | ((Bits)sign & 0x80000000u)); }

INLINE Vector as_floats(Integers n) { return __builtin_convertvector(n, Vector); }

/* Taylor's series on |x| < ln 2 / 2, times a power of 2; beyond +-87 that of the nearest bound. The
   relative error is below 3e-7. */
INLINE Vector exponential(Vector x) {
    x = least(broadcast(87), larger(broadcast(-87), x));
    Vector power = round_even(x * broadcast(1.442695041f));
    x = multiply_add(power, broadcast(-0.693145752f), x); /* ln 2 in two parts, the first exact times power */
    x = multiply_add(power, broadcast(-1.42860677e-6f), x);
    Vector sum = broadcast(1 / 5040.0f);
    const float inverse_factorials[] = {1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1, 1};
    for (int i = 0; i < 7; i++)
        sum = multiply_add(sum, x, broadcast(inverse_factorials[i]));
    Bits exponent = (Bits)__builtin_convertvector(power, Integers) + 127;
    return sum * (Vector)(exponent << 23);
}

/* Of a positive, normal number m 2^n, with m from sqrt(1/2) to sqrt(2):
   n ln 2 + 2 artanh((m - 1) / (m + 1)) */
INLINE Vector logarithm(Vector x) {
    const uint32_t one = 0x3F800000, root_half = 0x3F3504F3;
    Bits bits = (Bits)x + (one - root_half);
    Vector n = as_floats((Integers)(bits >> 23) - 127);
    Vector m = (Vector)((bits & 0x7FFFFF) + root_half);
    Vector s = (m - broadcast(1)) / (m + broadcast(1)), square = s * s;
    Vector sum = broadcast(2 / 9.0f);
    for (int odd = 7; odd > 0; odd -= 2)
        sum = multiply_add(sum, square, broadcast(2.0f / (float)odd));
    return multiply_add(n, broadcast(0.693147181f), sum * s);
}

/* A generator for each element: xoroshiro64*, D. Blackman, S. Vigna, "Scrambled linear pseudorandom
   number generators", ACM Trans. Math. Softw. 47(4), 2021. */
typedef struct {
    Bits low, high;
} Generators;

/* The last step of MurmurHash3 (A. Appleby): every bit of the result depends on all bits. */
INLINE Bits mixed(Bits h) {
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    return h ^ h >> 16;
}

/* Those of some elements: the same whatever WIDTH is. */
INLINE Generators generators(uint64_t seed, Bits elements) {
    Bits half = mixed(elements + (uint32_t)seed);
    /* the first number drawn depends on the low part alone, and so this on all of the seed */
    return (Generators){mixed(half ^ (uint32_t)(seed >> 32)), half | 1}; /* never all 0 */
}

INLINE Bits draw(Generators *g) {
    Bits result = g->low * 0x9E3779BBu, other = g->high ^ g->low;
    g->low = (g->low << 26 | g->low >> 6) ^ other ^ other << 9;
    g->high = other << 13 | other >> 19;
    return result;
}

/* In [0, 1), 24 bits. */
INLINE Vector uniform(Generators *g) { return as_floats((Integers)(draw(g) >> 8)) * broadcast(0x1p-24f); }

INLINE Vector polynomial(const float *coefficients, int count, Vector x) {
    Vector sum = broadcast(coefficients[0]);
    for (int i = 1; i < count; i++)
        sum = multiply_add(sum, x, broadcast(coefficients[i]));
    return sum;
}

/* sqrt(2) erfinv(x) with x uniform in (-1, 1), 23 bits, by the single-precision polynomials of M. Giles,
   "Approximating the erfinv function", GPU Computing Gems Jade Edition, 2011. */
INLINE Vector normal(Generators *g) {
    static const float center[] = {2.81022636e-08f, 3.43273939e-07f,  -3.5233877e-06f,
                                   -4.39150654e-06f, 0.00021858087f,  -0.00125372503f,
                                   -0.00417768164f, 0.246640727f,     1.50140941f};
    static const float tails[] = {-0.000200214257f, 0.000100950558f, 0.00134934322f,
                                  -0.00367342844f,  0.00573950773f,  -0.0076224613f,
                                  0.00943887047f,   1.00167406f,     2.83297682f};
    Vector middle = as_floats((Integers)(draw(g) >> 9)) + broadcast(0.5f);
    Vector x = multiply_add(middle, broadcast(0x1p-22f), broadcast(-1));
    Vector w = zero() - logarithm((broadcast(1) - x) * (broadcast(1) + x));
    Vector p = polynomial(center, 9, w - broadcast(2.5f));
    if (above(w, broadcast(5))) { /* about one vector in forty */
        Vector root = w;
        for (int i = 0; i < WIDTH; i++)
            root[i] = sqrtf(root[i]);
        p = choose(w - broadcast(5), polynomial(tails, 9, root - broadcast(3)), p);
    }
    return p * x * broadcast(1.41421356f);
}

#endif
