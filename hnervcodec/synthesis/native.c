/* The synthesis network's layers for processors that multiply bytes (VNNI): convolution, table,
 * residual sum and pixel shuffle in one pass over memory. Integers only: the same samples as every
 * other arithmetic. `hnervcodec/native.py` compiles this file, packs the operands and tests it. */

#include <immintrin.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512VNNI__) && defined(__AVX512VL__) && defined(__AVX512BW__)
enum { LANES = 16, TILE = 12 }; /* outputs of a vector; pixels whose sums stay in registers */
typedef __m512i Sums;
#define BROADCAST(p) _mm512_set1_epi32(p)
#define LOAD(p) _mm512_loadu_si512(p)
#define DOT(sums, levels, weights) _mm512_dpbusd_epi32(sums, levels, weights)
#define TIMES_256(sums) _mm512_slli_epi32(sums, 8)
#define SHIFT(sums, n) _mm512_sra_epi32(sums, _mm_cvtsi32_si128(n))
#define ADD(x, y) _mm512_add_epi32(x, y)
#define CLIP(x, low, high) _mm512_min_epi32(_mm512_max_epi32(x, low), high)
#define STORE(p, x) _mm512_storeu_si512(p, x)
#define HALVES(x, y) _mm512_mask_blend_epi32(0xFF00, x, y) /* low of x, high of y */
#define STORE_LOW(p, x) _mm256_storeu_si256((__m256i *)(p), _mm512_castsi512_si256(x))
#define STORE_HIGH(p, x) _mm256_storeu_si256((__m256i *)(p), _mm512_extracti64x4_epi64(x, 1))
#elif defined(__AVXVNNI__) && defined(__AVX2__)
enum { LANES = 8, TILE = 6 };
typedef __m256i Sums;
#define BROADCAST(p) _mm256_set1_epi32(p)
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define DOT(sums, levels, weights) _mm256_dpbusd_avx_epi32(sums, levels, weights)
#define TIMES_256(sums) _mm256_slli_epi32(sums, 8)
#define SHIFT(sums, n) _mm256_sra_epi32(sums, _mm_cvtsi32_si128(n))
#define ADD(x, y) _mm256_add_epi32(x, y)
#define CLIP(x, low, high) _mm256_min_epi32(_mm256_max_epi32(x, low), high)
#define STORE(p, x) _mm256_storeu_si256((__m256i *)(p), x)
#define HALVES(x, y) _mm256_blend_epi32(x, y, 0xF0)
#define STORE_LOW(p, x) _mm_storeu_si128((__m128i *)(p), _mm256_castsi256_si128(x))
#define STORE_HIGH(p, x) _mm_storeu_si128((__m128i *)(p), _mm256_extracti128_si256(x, 1))
#else
#error "no multiplication of bytes"
#endif

enum { FINE_MAX = 255 << 4, LEVELS = 0, FINE = 1, RESIDUAL = 2, HEAD = 3 };

typedef struct {
    int32_t mode;           /* what becomes of the table's values */
    int32_t kernel, shuffle;
    int32_t quads;          /* input channels in fours, the last one filled up with zero weights */
    int32_t channels;       /* of the output, after the shuffle */
    int32_t blocks;         /* of LANES outputs of the convolution */
    int32_t height, width;  /* of the convolution */
    int32_t passes;         /* 2: weights beyond a byte, 256 times the first set plus the second */
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
int hnv_layer_bytes(void) { return sizeof(Layer); }

/* Table indices of `tile` pixels for `full` blocks from `first` on and, with `half`, for one of half
 * as many outputs, in which two pixels share a vector; `in` is the first pixel's window, `index`
 * [tile][blocks][LANES]. Returns where the next blocks' weights are. */
static inline __attribute__((always_inline)) const int8_t *convolve(
    const Layer *l, const int8_t *weight, const uint8_t *in, int32_t *index, int first,
    const int full, const int half, const int tile) {
    const int64_t pixel = 4 * (int64_t)l->quads, stride = (int64_t)l->blocks * LANES;
    Sums sums[TILE][2], shared[TILE / 2];
    for (int t = 0; t < tile; t++)
        for (int b = 0; b < 2; b++) sums[t][b] = shared[t / 2] = BROADCAST(0);
    for (int pass = 0; pass < l->passes; pass++) {
        if (pass)
            for (int t = 0; t < tile; t++) {
                for (int b = 0; b < full; b++) sums[t][b] = TIMES_256(sums[t][b]);
                if (half && t % 2 == 0) shared[t / 2] = TIMES_256(shared[t / 2]);
            }
        for (int dy = 0; dy < l->kernel; dy++) {
            const uint8_t *row = in + dy * l->in_row;
            for (int n = 0; n < l->kernel * l->quads; n++, row += 4) { /* pixels are contiguous */
                Sums w[3], levels[2];
                for (int b = 0; b < full + half; b++, weight += 4 * LANES) w[b] = LOAD(weight);
                for (int t = 0; t < tile; t++) {
                    int32_t quad;
                    memcpy(&quad, row + t * pixel, 4);
                    levels[t % 2] = BROADCAST(quad);
                    for (int b = 0; b < full; b++)
                        sums[t][b] = DOT(sums[t][b], levels[t % 2], w[b]);
                    if (half && (t % 2 || t + 1 == tile))
                        shared[t / 2] =
                            DOT(shared[t / 2], HALVES(levels[0], levels[t % 2]), w[full]);
                }
            }
        }
    }
    const Sums low = BROADCAST(-l->half), high = BROADCAST(l->half - 1);
    for (int t = 0; t < tile; t++) {
        int32_t *to = index + t * stride + first * LANES;
        const int32_t *bias = l->bias + first * LANES;
        for (int b = 0; b < full; b++, to += LANES, bias += LANES)
            STORE(to, CLIP(SHIFT(ADD(sums[t][b], LOAD(bias)), l->shift), low, high));
        if (half && t % 2 == 0) {
            const Sums at = CLIP(SHIFT(ADD(shared[t / 2], LOAD(bias)), l->shift), low, high);
            STORE_LOW(to, at);
            if (t + 1 < tile) STORE_HIGH(to + stride, at);
        }
    }
    return weight;
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

static inline __attribute__((always_inline)) void run_tile(
    const Layer *l, int y, int x, int32_t *index, void *samples, const int tile) {
    const uint8_t *in = l->in + y * l->in_row + 4 * (int64_t)l->quads * x;
    const int8_t *weight = l->weight;
    const int outputs = l->channels * l->shuffle * l->shuffle, stride = l->blocks * LANES;
    const int rest = outputs % LANES, half = rest && rest <= LANES / 2, full = l->blocks - half;
    int first = 0;
    for (; first + 2 <= full; first += 2)
        weight = convolve(l, weight, in, index, first, 2, 0, tile);
    if (first < full && half) convolve(l, weight, in, index, first, 1, 1, tile);
    else if (first < full) convolve(l, weight, in, index, first, 1, 0, tile);
    else if (half) convolve(l, weight, in, index, first, 0, 1, tile);
#ifndef CONVOLUTIONS_ONLY /* as tools/bench_speed does */
    const int16_t *table = l->table + l->half;
    int16_t *values = (int16_t *)(index + (int64_t)TILE * stride);
    for (int t = 0; t < tile; t++)
        for (int o = 0; o < outputs; o++) values[t * outputs + o] = table[index[t * stride + o]];
    place(l, values, y, x, tile, samples);
#endif
}

/* Rows `from` to `to` (exclusive) of one layer. */
static void run_rows(const Layer *l, int from, int to, int32_t *index, void *samples) {
    for (int y = from; y < to; y++) {
        int x = 0;
        for (; x + TILE <= l->width; x += TILE) run_tile(l, y, x, index, samples, TILE);
        for (; x < l->width; x++) run_tile(l, y, x, index, samples, 1);
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
        run_rows(&layer, from, to, index, samples);
        atomic_fetch_add(arrived, 1);
        for (int spins = 0; atomic_load(arrived) < (n + 1) * workers; spins++)
            if (spins > 1000) sched_yield();
            else _mm_pause();
    }
}
