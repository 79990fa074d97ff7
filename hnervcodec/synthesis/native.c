/* The synthesis network's layers: convolution, table, residual sum and pixel shuffle in one pass over
 * memory. Integers only: the same samples as every other arithmetic. `native_library.py` compiles this
 * file for a processor; `native.py` packs the operands and tests what it got with a known answer.
 *
 * What differs between processors stands in the first part, once for each: a vector `Sums` of LANES
 * 32-bit sums and few functions on it. `dots` is the heart: to each sum it adds the products of four
 * levels (bytes 0..255) and four weights (bytes -128..127), `depth` times. */

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* LANES: outputs of a vector. TILE: pixels whose sums stay in registers.
 * OFFSET: what `broadcast_levels` takes from each level, which `native.py` puts back into the bias.
 * PARTIAL: what the weights of one sign whose products `dots` adds in 16 bits may come to at most, or
 * 0 if it adds in 32 bits only. `native.py` sees to it, and says which layers may go MAX_DEPTH deep. */
#if defined(__AVX512VNNI__) && defined(__AVX512VL__) && defined(__AVX512BW__)
#include <immintrin.h>
enum { LANES = 16, TILE = 12, OFFSET = 0, PARTIAL = 0, MAX_DEPTH = 1 };
typedef __m512i Sums;
typedef __m512i Levels;
INLINE Sums broadcast(int32_t x) { return _mm512_set1_epi32(x); }
INLINE Sums load(const void *p) { return _mm512_loadu_si512(p); }
INLINE void store(void *p, Sums x) { _mm512_storeu_si512(p, x); }
INLINE Sums add(Sums x, Sums y) { return _mm512_add_epi32(x, y); }
INLINE Sums shift_left(Sums x, int n) { return _mm512_sll_epi32(x, _mm_cvtsi32_si128(n)); }
INLINE Sums shift_right(Sums x, int n) { return _mm512_sra_epi32(x, _mm_cvtsi32_si128(n)); }
INLINE Sums clip(Sums x, Sums low, Sums high) {
    return _mm512_min_epi32(_mm512_max_epi32(x, low), high);
}
INLINE Levels broadcast_levels(int32_t quad) { return _mm512_set1_epi32(quad); }
INLINE Levels halves(Levels x, Levels y) { return _mm512_mask_blend_epi32(0xFF00, x, y); }
INLINE void store_low(void *p, Sums x) { _mm256_storeu_si256(p, _mm512_castsi512_si256(x)); }
INLINE void store_high(void *p, Sums x) { _mm256_storeu_si256(p, _mm512_extracti64x4_epi64(x, 1)); }
INLINE Sums dots(Sums sums, const Levels *levels, const int8_t *weight, int64_t step, int depth) {
    for (int d = 0; d < depth; d++)
        sums = _mm512_dpbusd_epi32(sums, levels[d], load(weight + d * step));
    return sums;
}
#elif defined(__AVX2__)
#include <immintrin.h>
typedef __m256i Sums;
typedef __m256i Levels;
INLINE Sums broadcast(int32_t x) { return _mm256_set1_epi32(x); }
INLINE Sums load(const void *p) { return _mm256_loadu_si256(p); }
INLINE void store(void *p, Sums x) { _mm256_storeu_si256(p, x); }
INLINE Sums add(Sums x, Sums y) { return _mm256_add_epi32(x, y); }
INLINE Sums shift_left(Sums x, int n) { return _mm256_sll_epi32(x, _mm_cvtsi32_si128(n)); }
INLINE Sums shift_right(Sums x, int n) { return _mm256_sra_epi32(x, _mm_cvtsi32_si128(n)); }
INLINE Sums clip(Sums x, Sums low, Sums high) {
    return _mm256_min_epi32(_mm256_max_epi32(x, low), high);
}
INLINE Levels broadcast_levels(int32_t quad) { return _mm256_set1_epi32(quad); }
INLINE Levels halves(Levels x, Levels y) { return _mm256_blend_epi32(x, y, 0xF0); }
INLINE void store_low(void *p, Sums x) { _mm_storeu_si128(p, _mm256_castsi256_si128(x)); }
INLINE void store_high(void *p, Sums x) { _mm_storeu_si128(p, _mm256_extracti128_si256(x, 1)); }
#if defined(__AVXVNNI__)
enum { LANES = 8, TILE = 6, OFFSET = 0, PARTIAL = 0, MAX_DEPTH = 1 };
INLINE Sums dots(Sums sums, const Levels *levels, const int8_t *weight, int64_t step, int depth) {
    for (int d = 0; d < depth; d++)
        sums = _mm256_dpbusd_avx_epi32(sums, levels[d], load(weight + d * step));
    return sums;
}
#else
/* Products of bytes are summed up in 16 bits, which saturate beyond 255 * 128. */
enum { LANES = 8, TILE = 6, OFFSET = 0, PARTIAL = 128, MAX_DEPTH = 2 };
INLINE Sums dots(Sums sums, const Levels *levels, const int8_t *weight, int64_t step, int depth) {
    __m256i partial = _mm256_maddubs_epi16(levels[0], load(weight));
    for (int d = 1; d < depth; d++)
        partial =
            _mm256_add_epi16(partial, _mm256_maddubs_epi16(levels[d], load(weight + d * step)));
    return add(sums, _mm256_madd_epi16(partial, _mm256_set1_epi16(1)));
}
#endif
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
typedef struct { int32x4_t v[2]; } Sums;
typedef struct { int8x16_t v[2]; } Levels;
#define EACH(expression) ((Sums){{({ const int i = 0; expression; }), ({ const int i = 1; expression; })}})
INLINE Sums broadcast(int32_t x) { return EACH(vdupq_n_s32(x)); }
INLINE Sums load(const void *p) { return EACH(vld1q_s32((const int32_t *)p + 4 * i)); }
INLINE void store_low(void *p, Sums x) { vst1q_s32(p, x.v[0]); }
INLINE void store_high(void *p, Sums x) { vst1q_s32(p, x.v[1]); }
INLINE void store(void *p, Sums x) { store_low(p, x), store_high((int32_t *)p + 4, x); }
INLINE Sums add(Sums x, Sums y) { return EACH(vaddq_s32(x.v[i], y.v[i])); }
INLINE Sums shift_left(Sums x, int n) { return EACH(vshlq_s32(x.v[i], vdupq_n_s32(n))); }
INLINE Sums shift_right(Sums x, int n) { return EACH(vshlq_s32(x.v[i], vdupq_n_s32(-n))); }
INLINE Sums clip(Sums x, Sums low, Sums high) {
    return EACH(vminq_s32(vmaxq_s32(x.v[i], low.v[i]), high.v[i]));
}
INLINE Levels broadcast_levels(int32_t quad) { /* signed, as the products of bytes are */
    const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(quad ^ (int32_t)0x80808080));
    return (Levels){{x, x}};
}
INLINE Levels halves(Levels x, Levels y) { return (Levels){{x.v[0], y.v[1]}}; }
#if defined(__ARM_FEATURE_DOTPROD)
enum { LANES = 8, TILE = 6, OFFSET = 128, PARTIAL = 0, MAX_DEPTH = 1 };
INLINE int32x4_t dot(int32x4_t sums, int8x16_t levels, int8x16_t weights) {
    return vdotq_s32(sums, levels, weights);
}
#else
/* Two products are summed up in 16 bits. */
enum { LANES = 8, TILE = 6, OFFSET = 128, PARTIAL = 127, MAX_DEPTH = 1 };
INLINE int32x4_t dot(int32x4_t sums, int8x16_t levels, int8x16_t weights) {
    const int16x8_t low = vmull_s8(vget_low_s8(levels), vget_low_s8(weights));
    return vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(levels, weights)));
}
#endif
INLINE Sums dots(Sums sums, const Levels *levels, const int8_t *weight, int64_t step, int depth) {
    for (int d = 0; d < depth; d++)
        for (int i = 0; i < 2; i++)
            sums.v[i] =
                dot(sums.v[i], levels[d].v[i], vld1q_s8(weight + d * step + 16 * i));
    return sums;
}
#else
/* Vectors of gcc and clang, for any processor that has the lower byte first. Products of two bytes
 * fit into 16 bits; the even and the odd ones of each output are made by one multiplication. */
enum { LANES = 4, TILE = 4, OFFSET = 0, PARTIAL = 0, MAX_DEPTH = 1 };
typedef int32_t Sums __attribute__((vector_size(16)));
typedef int16_t Products __attribute__((vector_size(16)));
typedef struct { Products even, odd; } Levels;
INLINE Sums broadcast(int32_t x) { return (Sums){x, x, x, x}; }
INLINE Sums load(const void *p) { Sums x; memcpy(&x, p, sizeof x); return x; }
INLINE void store(void *p, Sums x) { memcpy(p, &x, sizeof x); }
INLINE void store_low(void *p, Sums x) { memcpy(p, &x, sizeof x / 2); }
INLINE void store_high(void *p, Sums x) { memcpy(p, (const char *)&x + sizeof x / 2, sizeof x / 2); }
INLINE Sums add(Sums x, Sums y) { return x + y; }
INLINE Sums shift_left(Sums x, int n) { return x << n; }
INLINE Sums shift_right(Sums x, int n) { return x >> n; }
INLINE Sums choose(Sums where, Sums x, Sums y) { return (where & x) | (~where & y); }
INLINE Sums clip(Sums x, Sums low, Sums high) {
    const Sums risen = choose(x < low, low, x);
    return choose(risen > high, high, risen);
}
INLINE Levels broadcast_levels(int32_t quad) {
    return (Levels){(Products)broadcast(quad & 0x00FF00FF), (Products)broadcast(quad >> 8 & 0x00FF00FF)};
}
INLINE Levels halves(Levels x, Levels y) {
    const Sums low = {-1, -1, 0, 0};
    return (Levels){(Products)choose(low, (Sums)x.even, (Sums)y.even),
                    (Products)choose(low, (Sums)x.odd, (Sums)y.odd)};
}
INLINE Sums both(Products x) { return ((Sums)x << 16 >> 16) + ((Sums)x >> 16); }
INLINE Sums dots(Sums sums, const Levels *levels, const int8_t *weight, int64_t step, int depth) {
    for (int d = 0; d < depth; d++) {
        const Products weights = (Products)load(weight + d * step);
        sums += both(levels[d].even * (weights << 8 >> 8)) + both(levels[d].odd * (weights >> 8));
    }
    return sums;
}
#endif

_Static_assert(TILE % 2 == 0, "two pixels share a vector");

INLINE void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

enum { FINE_MAX = 255 << 4, LEVELS = 0, FINE = 1, RESIDUAL = 2, HEAD = 3 };

typedef struct {
    int32_t mode;           /* what becomes of the table's values */
    int32_t kernel, shuffle;
    int32_t quads;          /* input channels in fours, the last one filled up with zero weights */
    int32_t channels;       /* of the output, after the shuffle */
    int32_t blocks;         /* of LANES outputs of the convolution */
    int32_t height, width;  /* of the convolution */
    int32_t passes;         /* sets of weights, the digits of larger ones from the highest on */
    int32_t digit_bits;     /* of each further set */
    int32_t depth;          /* how many products of two bytes may be summed up at once: 1 or MAX_DEPTH */
    int32_t shift, half;    /* of the table index */
    int32_t wide;           /* samples of two bytes */
    const int8_t *weight;   /* two blocks together: [passes][kernel][kernel][quads][2][LANES][4]; a
                             * last block that is at most half full holds its outputs twice */
    const int32_t *bias;    /* [blocks][LANES], likewise; zero point and rounding folded in */
    const int16_t *table;   /* [2 * half] */
    const uint8_t *in;      /* [height + kernel - 1][..][quads][4], the border at the zero point */
    int64_t in_row;         /* bytes of a row of it */
    uint8_t *out;           /* levels, at the first pixel inside of the border */
    int64_t out_row, out_pixel;
    int16_t *fine;          /* [height * shuffle][width * shuffle][channels], sixteenths of levels */
    int32_t *scratch;       /* [workers][2][TILE][blocks * LANES] */
} Layer;

int hnv_lanes(void) { return LANES; }
int hnv_tile(void) { return TILE; }
int hnv_offset(void) { return OFFSET; }
int hnv_partial(void) { return PARTIAL; }
int hnv_depth(void) { return MAX_DEPTH; }
int hnv_layer_bytes(void) { return sizeof(Layer); }

/* Adds the products of `depth` times four levels of `tile` pixels, from `row` on, to the sums. */
INLINE void accumulate(Sums sums[][2], Sums shared[], const uint8_t *row, int64_t pixel,
                       const int8_t *weight, int64_t step, const int full, const int half,
                       const int tile, const int depth) {
    Levels levels[2][MAX_DEPTH]; /* of an even and an odd pixel */
    for (int t = 0; t < tile; t++) {
        for (int d = 0; d < depth; d++) {
            int32_t quad;
            memcpy(&quad, row + t * pixel + 4 * d, 4);
            levels[t % 2][d] = broadcast_levels(quad);
        }
        for (int b = 0; b < full; b++)
            sums[t][b] = dots(sums[t][b], levels[t % 2], weight + 4 * LANES * b, step, depth);
        if (half && (t % 2 || t + 1 == tile)) {
            Levels both[MAX_DEPTH];
            for (int d = 0; d < depth; d++) both[d] = halves(levels[0][d], levels[t % 2][d]);
            shared[t / 2] = dots(shared[t / 2], both, weight + 4 * LANES * full, step, depth);
        }
    }
}

/* Table indices of `tile` pixels for `full` blocks from `first` on and, with `half`, for one of half
 * as many outputs, in which two pixels share a vector; `in` is the first pixel's window, `index`
 * [tile][blocks][LANES]. Returns where the next blocks' weights are. */
INLINE const int8_t *convolve(const Layer *l, const int8_t *weight, const uint8_t *in, int32_t *index,
                              int first, const int full, const int half, const int tile,
                              const int depth) {
    const int64_t pixel = 4 * (int64_t)l->quads, stride = (int64_t)l->blocks * LANES;
    const int64_t step = 4 * LANES * (full + half); /* bytes of the weights of four levels */
    Sums sums[TILE][2], shared[TILE / 2];
    for (int t = 0; t < tile; t++)
        for (int b = 0; b < 2; b++) sums[t][b] = shared[t / 2] = broadcast(0);
    for (int pass = 0; pass < l->passes; pass++) {
        if (pass)
            for (int t = 0; t < tile; t++) {
                for (int b = 0; b < full; b++) sums[t][b] = shift_left(sums[t][b], l->digit_bits);
                if (half && t % 2 == 0) shared[t / 2] = shift_left(shared[t / 2], l->digit_bits);
            }
        for (int dy = 0; dy < l->kernel; dy++) {
            const uint8_t *row = in + dy * l->in_row; /* pixels are contiguous */
            int left = l->kernel * l->quads;
            for (; left >= depth; left -= depth, row += 4 * depth, weight += depth * step)
                accumulate(sums, shared, row, pixel, weight, step, full, half, tile, depth);
            for (; left > 0; left--, row += 4, weight += step)
                accumulate(sums, shared, row, pixel, weight, step, full, half, tile, 1);
        }
    }
    const Sums low = broadcast(-l->half), high = broadcast(l->half - 1);
    for (int t = 0; t < tile; t++) {
        int32_t *to = index + t * stride + first * LANES;
        const int32_t *bias = l->bias + first * LANES;
        for (int b = 0; b < full; b++, to += LANES, bias += LANES)
            store(to, clip(shift_right(add(sums[t][b], load(bias)), l->shift), low, high));
        if (half && t % 2 == 0) {
            const Sums at = clip(shift_right(add(shared[t / 2], load(bias)), l->shift), low, high);
            store_low(to, at);
            if (t + 1 < tile) store_high(to + stride, at);
        }
    }
    return weight;
}

/* The table's values at `n` indices. Faster than gathering on the processors at hand. */
static inline void look_up(const int16_t *table, const int32_t *index, int16_t *values, int n) {
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint16_t four[4] = {table[index[i]], table[index[i + 1]], table[index[i + 2]], table[index[i + 3]]};
        const uint64_t together = four[0] | (uint64_t)four[1] << 16 | (uint64_t)four[2] << 32 | (uint64_t)four[3] << 48;
        memcpy(values + i, &together, 8); /* one store: stores are what it waits for */
    }
    for (; i < n; i++) values[i] = table[index[i]];
}

static inline int16_t clip_fine(int16_t v) { return v < 0 ? 0 : v > FINE_MAX ? FINE_MAX : v; }

/* `n` values of the table where they belong, in a row of pixels without gaps. */
static inline void put(const Layer *l, const int16_t *restrict values, uint8_t *restrict out,
                       int16_t *restrict fine, int n) {
    if (l->mode == LEVELS)
        for (int i = 0; i < n; i++) out[i] = (uint8_t)values[i];
    else if (l->mode == FINE)
        for (int i = 0; i < n; i++) {
            fine[i] = values[i];
            out[i] = (uint8_t)((values[i] + 8) >> 4);
        }
    else
        for (int i = 0; i < n; i++) {
            const int16_t v = clip_fine((int16_t)(values[i] + fine[i]));
            fine[i] = v;
            out[i] = (uint8_t)((int16_t)(v + 8) >> 4);
        }
}

/* Writes the values of `tile` pixels of the convolution, from row y and column x on. */
static inline void place(const Layer *l, const int16_t *values, int y, int x, int tile, void *samples) {
    const int s = l->shuffle, channels = l->channels, outputs = channels * s * s;
    if (l->mode == HEAD) {
        const int64_t plane = (int64_t)l->height * l->width, at = (int64_t)y * l->width + x;
        for (int c = 0; c < channels; c++)
            for (int t = 0; t < tile; t++)
                if (l->wide) ((int16_t *)samples)[c * plane + at + t] = values[t * outputs + c];
                else ((uint8_t *)samples)[c * plane + at + t] = (uint8_t)values[t * outputs + c];
        return;
    }
    for (int dy = 0; dy < s; dy++) {
        const int64_t row = (int64_t)y * s + dy, column = (int64_t)x * s;
        uint8_t *out = l->out + row * l->out_row + column * l->out_pixel;
        int16_t *fine = l->fine ? l->fine + (row * l->width * s + column) * channels : NULL;
        if (l->out_pixel > channels) /* gaps between the pixels */
            for (int i = 0; i < tile * s; i++)
                put(l, values + (i / s * s * s + dy * s + i % s) * channels, out + i * l->out_pixel,
                    fine ? fine + i * channels : NULL, channels);
        else if (s == 1)
            put(l, values, out, fine, tile * channels);
        else
            for (int t = 0, n = s * channels; t < tile; t++)
                put(l, values + t * outputs + dy * n, out + t * n, fine ? fine + t * n : NULL, n);
    }
}

INLINE void run_tile(const Layer *l, int y, int x, int32_t *index, void *samples, const int tile,
                     const int depth) {
    const uint8_t *in = l->in + y * l->in_row + 4 * (int64_t)l->quads * x;
    const int8_t *weight = l->weight;
    const int outputs = l->channels * l->shuffle * l->shuffle, stride = l->blocks * LANES;
    const int rest = outputs % LANES, half = rest && rest <= LANES / 2, full = l->blocks - half;
    int first = 0;
    for (; first + 2 <= full; first += 2)
        weight = convolve(l, weight, in, index, first, 2, 0, tile, depth);
    if (first < full && half) convolve(l, weight, in, index, first, 1, 1, tile, depth);
    else if (first < full) convolve(l, weight, in, index, first, 1, 0, tile, depth);
    else if (half) convolve(l, weight, in, index, first, 0, 1, tile, depth);
#ifndef CONVOLUTIONS_ONLY /* as tools/bench_speed does */
    const int16_t *table = l->table + l->half;
    int16_t *values = (int16_t *)(index + (int64_t)TILE * stride);
    for (int t = 0; t < tile; t++)
        look_up(table, index + t * stride, values + t * outputs, outputs);
    place(l, values, y, x, tile, samples);
#endif
}

/* Rows `from` to `to` (exclusive) of one layer. */
INLINE void run_rows(const Layer *l, int from, int to, int32_t *index, void *samples, const int depth) {
    for (int y = from; y < to; y++) {
        int x = 0;
        for (; x + TILE <= l->width; x += TILE) run_tile(l, y, x, index, samples, TILE, depth);
        for (; x < l->width; x++) run_tile(l, y, x, index, samples, 1, 1);
    }
}

/* One worker's share of a frame, which all `workers` run at once, each from a thread of its own.
 * embedding: what the first layer reads; samples: [channels][height][width] of the head's output;
 * arrived: 0 at the start, how often a worker finished a layer. */
void hnv_run(const Layer *layers, int count, const uint8_t *embedding, void *samples, int worker,
             int workers, _Atomic int *arrived) {
    for (int n = 0; n < count; n++) {
        Layer layer = layers[n];
        if (n == 0) layer.in = embedding;
        const int from = (int)((int64_t)layer.height * worker / workers);
        const int to = (int)((int64_t)layer.height * (worker + 1) / workers);
        int32_t *index = layer.scratch + (int64_t)worker * 2 * TILE * layer.blocks * LANES;
        if (layer.depth == MAX_DEPTH) run_rows(&layer, from, to, index, samples, MAX_DEPTH);
        else run_rows(&layer, from, to, index, samples, 1);
        atomic_fetch_add(arrived, 1);
        for (int spins = 0; atomic_load(arrived) < (n + 1) * workers; spins++)
            if (spins > 1000) sched_yield();
            else pause_briefly();
    }
}
