/* Vectors of WIDTH floats and their operations, for AVX-512 and for AVX2 with FMA. */
#ifndef VECTORS_H
#define VECTORS_H

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define ALIGNED __attribute__((aligned(64))) /* vectors within a cache line load twice as fast */

#ifdef __AVX512F__

#define WIDTH 16
#define MAX_VECTORS 8 /* sums of one sample held in registers at a time */
typedef __m512 Vector;

INLINE Vector zero(void) { return _mm512_setzero_ps(); }
INLINE Vector broadcast(float x) { return _mm512_set1_ps(x); }
INLINE Vector load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void store(float *p, Vector v) { _mm512_storeu_ps(p, v); }
INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
INLINE Vector minus_product(Vector a, Vector b, Vector c) { return _mm512_fnmadd_ps(a, b, c); } /* c - a b */
INLINE Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
INLINE Vector subtract(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
INLINE Vector multiply(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
INLINE Vector relu(Vector v) { return _mm512_max_ps(zero(), v); } /* NaN stays NaN */
INLINE Vector larger(Vector a, Vector b) { return _mm512_max_ps(a, b); } /* b if one is NaN */
INLINE Vector least(Vector a, Vector b) { return _mm512_min_ps(a, b); }  /* b if one is NaN */
INLINE Vector gather(const float *p, const int32_t *places) {
    return _mm512_i32gather_ps(_mm512_loadu_si512(places), p, 4);
}
INLINE Vector round_down(Vector v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEG_INF); }
INLINE Vector round_even(Vector v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT); }
INLINE float sum(Vector v) { return _mm512_reduce_add_ps(v); }

/* a where x > 0, else b, and b where x is NaN */
INLINE Vector choose(Vector x, Vector a, Vector b) {
    return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, zero(), _CMP_GT_OQ), a);
}

/* A bit for each element: of a above b, or of v other than 0 */
INLINE unsigned above(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
INLINE unsigned unlike_zero(Vector v) { return _mm512_cmp_ps_mask(v, zero(), _CMP_NEQ_UQ); }

INLINE __mmask16 first(int64_t count) {
    return count >= WIDTH ? 0xFFFF : (__mmask16)((1u << count) - 1);
}
INLINE Vector load_first(const float *p, int64_t count) { return _mm512_maskz_loadu_ps(first(count), p); }
INLINE void store_first(float *p, Vector v, int64_t count) { _mm512_mask_storeu_ps(p, first(count), v); }

/* v where x > 0, and where x is NaN, else 0 */
INLINE Vector where_positive(Vector x, Vector v) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, zero(), _CMP_NLE_UQ), v);
}

/* NaN where a or b is, else v */
INLINE Vector unless_nan(Vector a, Vector b, Vector v) {
    return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q), broadcast(__builtin_nanf("")));
}

/* v where a = b, else 0 */
INLINE Vector where_equal(Vector a, Vector b, Vector v) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), v);
}

/* Rows a and b become a0 b0 a1 b1 ... */
INLINE void interleave(Vector a, Vector b, Vector *low, Vector *high) {
    const __m512i from_low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i from_high = _mm512_add_epi32(from_low, _mm512_set1_epi32(8));
    *low = _mm512_permutex2var_ps(a, from_low, b);
    *high = _mm512_permutex2var_ps(a, from_high, b);
}

/* Append the elements of x[0:count] that are not 0 and their positions; return their number. Both
   lists need WIDTH elements of room beyond count. */
INLINE int64_t nonzeros(const float *x, int64_t count, float *values, int32_t *positions) {
    const __m512i iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int64_t found = 0;
    for (int64_t i = 0; i < count; i += WIDTH) {
        Vector v = load_first(x + i, count - i);
        __mmask16 mask = _mm512_mask_cmp_ps_mask(first(count - i), v, zero(), _CMP_NEQ_UQ);
        __m512i position = _mm512_add_epi32(iota, _mm512_set1_epi32((int32_t)i));
        store(values + found, _mm512_maskz_compress_ps(mask, v));
        _mm512_storeu_si512(positions + found, _mm512_maskz_compress_epi32(mask, position));
        found += __builtin_popcount(mask);
    }
    return found;
}

#else

#define WIDTH 8
#define MAX_VECTORS 13
typedef __m256 Vector;

INLINE Vector zero(void) { return _mm256_setzero_ps(); }
INLINE Vector broadcast(float x) { return _mm256_set1_ps(x); }
INLINE Vector load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void store(float *p, Vector v) { _mm256_storeu_ps(p, v); }
INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
INLINE Vector minus_product(Vector a, Vector b, Vector c) { return _mm256_fnmadd_ps(a, b, c); } /* c - a b */
INLINE Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
INLINE Vector subtract(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
INLINE Vector multiply(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
INLINE Vector relu(Vector v) { return _mm256_max_ps(zero(), v); } /* NaN stays NaN */
INLINE Vector larger(Vector a, Vector b) { return _mm256_max_ps(a, b); } /* b if one is NaN */
INLINE Vector least(Vector a, Vector b) { return _mm256_min_ps(a, b); }  /* b if one is NaN */
INLINE Vector gather(const float *p, const int32_t *places) {
    return _mm256_i32gather_ps(p, _mm256_loadu_si256((const __m256i *)places), 4);
}
INLINE Vector round_down(Vector v) { return _mm256_floor_ps(v); }
INLINE Vector round_even(Vector v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT); }
INLINE float sum(Vector v) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

/* a where x > 0, else b, and b where x is NaN */
INLINE Vector choose(Vector x, Vector a, Vector b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, zero(), _CMP_GT_OQ));
}

/* A bit for each element: of a above b, or of v other than 0 */
INLINE unsigned above(Vector a, Vector b) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
INLINE unsigned unlike_zero(Vector v) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(v, zero(), _CMP_NEQ_UQ));
}

INLINE __m256i first(int64_t count) {
    const __m256i iota = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count > WIDTH ? WIDTH : (int32_t)count), iota);
}
INLINE Vector load_first(const float *p, int64_t count) { return _mm256_maskload_ps(p, first(count)); }
INLINE void store_first(float *p, Vector v, int64_t count) {
    if (count >= WIDTH) /* a store with a mask takes AMD's processors several times as long */
        store(p, v);
    else
        _mm256_maskstore_ps(p, first(count), v);
}

/* v where x > 0, and where x is NaN, else 0 */
INLINE Vector where_positive(Vector x, Vector v) {
    return _mm256_and_ps(_mm256_cmp_ps(x, zero(), _CMP_NLE_UQ), v);
}

/* NaN where a or b is, else v */
INLINE Vector unless_nan(Vector a, Vector b, Vector v) {
    return _mm256_or_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q), v); /* all bits set is NaN */
}

/* v where a = b, else 0 */
INLINE Vector where_equal(Vector a, Vector b, Vector v) {
    return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ), v);
}

/* Rows a and b become a0 b0 a1 b1 ... */
INLINE void interleave(Vector a, Vector b, Vector *low, Vector *high) {
    Vector even = _mm256_unpacklo_ps(a, b), odd = _mm256_unpackhi_ps(a, b);
    *low = _mm256_permute2f128_ps(even, odd, 0x20);
    *high = _mm256_permute2f128_ps(even, odd, 0x31);
}

/* bits_set[m]: positions of the set bits of m, one byte each, lowest first */
#define BIT(m, i) (((m) >> (i)) & INT64_C(1))
#define PUT(m, i, rest) ((rest) << (8 * BIT(m, i)) | BIT(m, i) * (i))
#define BITS_SET(m) PUT(m, 0, PUT(m, 1, PUT(m, 2, PUT(m, 3, PUT(m, 4, PUT(m, 5, PUT(m, 6, BIT(m, 7) * 7)))))))
#define FOUR(m) BITS_SET(m), BITS_SET((m) + 1), BITS_SET((m) + 2), BITS_SET((m) + 3)
#define SIXTEEN(m) FOUR(m), FOUR((m) + 4), FOUR((m) + 8), FOUR((m) + 12)
#define SIXTY_FOUR(m) SIXTEEN(m), SIXTEEN((m) + 16), SIXTEEN((m) + 32), SIXTEEN((m) + 48)
static const int64_t bits_set[256] = {SIXTY_FOUR(0), SIXTY_FOUR(64), SIXTY_FOUR(128), SIXTY_FOUR(192)};

/* Append the elements of x[0:count] that are not 0 and their positions; return their number. Both
   lists need WIDTH elements of room beyond count. */
INLINE int64_t nonzeros(const float *x, int64_t count, float *values, int32_t *positions) {
    int64_t found = 0;
    for (int64_t i = 0; i < count; i += WIDTH) {
        Vector v = load_first(x + i, count - i);
        Vector not_zero = _mm256_cmp_ps(v, zero(), _CMP_NEQ_UQ);
        int mask = _mm256_movemask_ps(_mm256_and_ps(not_zero, _mm256_castsi256_ps(first(count - i))));
        __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bits_set[mask]));
        __m256i position = _mm256_add_epi32(order, _mm256_set1_epi32((int32_t)i));
        store(values + found, _mm256_permutevar8x32_ps(v, order));
        _mm256_storeu_si256((__m256i *)(positions + found), position);
        found += __builtin_popcount(mask);
    }
    return found;
}

#endif

#define ALL_ABOVE ((1u << WIDTH) - 1)
#define PADDED(count) (((count) + WIDTH - 1) / WIDTH * WIDTH)

/* Turn WIDTH rows into WIDTH columns: log2(WIDTH) rounds of interleaving the halves. */
INLINE void transpose(Vector *rows) {
    Vector other[WIDTH];
    for (int round = 1; round < WIDTH; round *= 2) {
        for (int i = 0; i < WIDTH / 2; i++)
            interleave(rows[i], rows[i + WIDTH / 2], &other[2 * i], &other[2 * i + 1]);
        for (int i = 0; i < WIDTH; i++)
            rows[i] = other[i];
    }
}

#endif
