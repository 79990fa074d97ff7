/* The synthesis network's layers: convolution, table, residual sum and pixel shuffle in one pass over
 * memory. Integers only: the same samples as every other arithmetic. `native_library.py` compiles this
 * file for a processor; `native.py` packs the operands and tests what it got with a known answer.
 *
 * Levels lie in fours of channels, so that four bytes are four channels of a pixel and sixteen bytes
 * are four neighbouring pixels. A vector of sums is OUTPUTS outputs of a group of PIXELS such pixels:
 * whatever the number of channels, no lane is idle.
 *
 * What differs between processors stands in the first part, once for each: a vector `Sums` of 32-bit
 * sums and few functions on it. `dots` is the heart: to each sum it adds the products of four levels
 * (bytes 0..255) and four weights (bytes -128..127). */

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* OUTPUTS, PIXELS: of a vector. GROUPS, VECTORS: of pixels and of outputs that are summed up at once.
 * OFFSET: what `load_levels` takes from each level, which `native.py` puts back into the bias.
 * PARTIAL: what the weights of one sign whose products `dots` adds in 16 bits may come to at most, or
 * 0 if it adds in 32 bits only. MAX_DEPTH: how many times at most it does so before `widened` makes
 * sums of 32 bits of these; `native.py` says which taps may go how deep. */
#if defined(__AVX512VNNI__) && defined(__AVX512VL__) && defined(__AVX512BW__)
enum { OUTPUTS = 4, PIXELS = 4, GROUPS = 4, VECTORS = 4, OFFSET = 0, PARTIAL = 0, MAX_DEPTH = 1 };
typedef __m512i Sums;
typedef __m512i Levels;
typedef __m512i Weights;
INLINE Sums broadcast(int32_t x) { return _mm512_set1_epi32(x); }
INLINE Sums load(const void *p) { return _mm512_loadu_si512(p); }
INLINE void store(void *p, Sums x) { _mm512_storeu_si512(p, x); }
INLINE Sums add(Sums x, Sums y) { return _mm512_add_epi32(x, y); }
INLINE Sums shift_left(Sums x, int n) { return _mm512_sll_epi32(x, _mm_cvtsi32_si128(n)); }
INLINE Sums shift_right(Sums x, int n) { return _mm512_sra_epi32(x, _mm_cvtsi32_si128(n)); }
INLINE Sums clip(Sums x, Sums low, Sums high) {
    return _mm512_min_epi32(_mm512_max_epi32(x, low), high);
}
INLINE Levels load_levels(const void *p) { return _mm512_broadcast_i32x4(_mm_loadu_si128(p)); }
INLINE Weights load_weights(const void *p) { /* those of an output for its four pixels */
    const __m512i outputs = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    return _mm512_permutexvar_epi32(outputs, _mm512_castsi128_si512(_mm_loadu_si128(p)));
}
INLINE Sums dots(Sums sums, Levels levels, Weights weights) {
    return _mm512_dpbusd_epi32(sums, levels, weights);
}
INLINE Sums widened(Sums sums) { return sums; }
#elif defined(__AVX2__)
typedef __m256i Sums;
typedef __m256i Levels;
typedef __m256i Weights;
INLINE Sums broadcast(int32_t x) { return _mm256_set1_epi32(x); }
INLINE Sums load(const void *p) { return _mm256_loadu_si256(p); }
INLINE void store(void *p, Sums x) { _mm256_storeu_si256(p, x); }
INLINE Sums add(Sums x, Sums y) { return _mm256_add_epi32(x, y); }
INLINE Sums shift_left(Sums x, int n) { return _mm256_sll_epi32(x, _mm_cvtsi32_si128(n)); }
INLINE Sums shift_right(Sums x, int n) { return _mm256_sra_epi32(x, _mm_cvtsi32_si128(n)); }
INLINE Sums clip(Sums x, Sums low, Sums high) {
    return _mm256_min_epi32(_mm256_max_epi32(x, low), high);
}
INLINE Levels load_levels(const void *p) { return load(p); }
INLINE Weights load_weights(const void *p) {
    int32_t four;
    memcpy(&four, p, 4);
    return broadcast(four);
}
#if defined(__AVXVNNI__)
enum { OUTPUTS = 1, PIXELS = 8, GROUPS = 2, VECTORS = 4, OFFSET = 0, PARTIAL = 0, MAX_DEPTH = 1 };
INLINE Sums dots(Sums sums, Levels levels, Weights weights) {
    return _mm256_dpbusd_avx_epi32(sums, levels, weights);
}
INLINE Sums widened(Sums sums) { return sums; }
#else
/* Products of bytes are summed up in 16 bits, which saturate beyond 255 * 128. */
enum { OUTPUTS = 1, PIXELS = 8, GROUPS = 2, VECTORS = 4, OFFSET = 0, PARTIAL = 128, MAX_DEPTH = 4 };
INLINE Sums dots(Sums sums, Levels levels, Weights weights) {
    sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(levels, weights));
    __asm__("" : "+x"(sums)); /* else gcc keeps all products until it adds them, in memory */
    return sums;
}
INLINE Sums widened(Sums sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }
#endif
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
typedef int32x4_t Sums;
typedef int8x16_t Levels;
typedef int8x16_t Weights;
INLINE Sums broadcast(int32_t x) { return vdupq_n_s32(x); }
INLINE Sums load(const void *p) { return vld1q_s32(p); }
INLINE void store(void *p, Sums x) { vst1q_s32(p, x); }
INLINE Sums add(Sums x, Sums y) { return vaddq_s32(x, y); }
INLINE Sums shift_left(Sums x, int n) { return vshlq_s32(x, vdupq_n_s32(n)); }
INLINE Sums shift_right(Sums x, int n) { return vshlq_s32(x, vdupq_n_s32(-n)); }
INLINE Sums clip(Sums x, Sums low, Sums high) { return vminq_s32(vmaxq_s32(x, low), high); }
INLINE Levels load_levels(const void *p) { /* signed, as the products of bytes are */
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(0x80)));
}
INLINE Weights load_weights(const void *p) {
    int32_t four;
    memcpy(&four, p, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
#if defined(__ARM_FEATURE_DOTPROD)
enum { OUTPUTS = 1, PIXELS = 4, GROUPS = 4, VECTORS = 4, OFFSET = 128, PARTIAL = 0, MAX_DEPTH = 1 };
INLINE Sums dots(Sums sums, Levels levels, Weights weights) { return vdotq_s32(sums, levels, weights); }
#else
/* Two products are summed up in 16 bits. */
enum { OUTPUTS = 1, PIXELS = 4, GROUPS = 4, VECTORS = 4, OFFSET = 128, PARTIAL = 127, MAX_DEPTH = 1 };
INLINE Sums dots(Sums sums, Levels levels, Weights weights) {
    const int16x8_t low = vmull_s8(vget_low_s8(levels), vget_low_s8(weights));
    return vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(levels, weights)));
}
#endif
INLINE Sums widened(Sums sums) { return sums; }
#else
/* Vectors of gcc and clang, for any processor that has the lower byte first. Products of two bytes
 * fit into 16 bits; the even and the odd ones of each pixel are made by one multiplication. */
enum { OUTPUTS = 1, PIXELS = 4, GROUPS = 4, VECTORS = 2, OFFSET = 0, PARTIAL = 0, MAX_DEPTH = 1 };
typedef int32_t Sums __attribute__((vector_size(16)));
typedef int16_t Products __attribute__((vector_size(16)));
typedef struct { Products even, odd; } Levels;
typedef Levels Weights;
INLINE Sums broadcast(int32_t x) { return (Sums){x, x, x, x}; }
INLINE Sums load(const void *p) { Sums x; memcpy(&x, p, sizeof x); return x; }
INLINE void store(void *p, Sums x) { memcpy(p, &x, sizeof x); }
INLINE Sums add(Sums x, Sums y) { return x + y; }
INLINE Sums shift_left(Sums x, int n) { return x << n; }
INLINE Sums shift_right(Sums x, int n) { return x >> n; }
INLINE Sums choose(Sums where, Sums x, Sums y) { return (where & x) | (~where & y); }
INLINE Sums clip(Sums x, Sums low, Sums high) {
    const Sums risen = choose(x < low, low, x);
    return choose(risen > high, high, risen);
}
INLINE Levels load_levels(const void *p) {
    const Sums x = load(p);
    return (Levels){(Products)(x & 0x00FF00FF), (Products)(x >> 8 & 0x00FF00FF)};
}
INLINE Weights load_weights(const void *p) {
    int32_t four;
    memcpy(&four, p, 4);
    const Products x = (Products)broadcast(four);
    return (Weights){x << 8 >> 8, x >> 8};
}
INLINE Sums both(Products x) { return ((Sums)x << 16 >> 16) + ((Sums)x >> 16); }
INLINE Sums dots(Sums sums, Levels levels, Weights weights) {
    return sums + both(levels.even * weights.even) + both(levels.odd * weights.odd);
}
INLINE Sums widened(Sums sums) { return sums; }
#endif

/* Four values from anywhere in one store: stores are what look-ups wait for. */
INLINE void gather_four(int16_t *to, const int16_t *table, int32_t a, int32_t b, int32_t c, int32_t d) {
#if defined(__SSE2__)
    __m128i four = _mm_insert_epi16(_mm_setzero_si128(), table[a], 0);
    four = _mm_insert_epi16(_mm_insert_epi16(four, table[b], 1), table[c], 2);
    _mm_storel_epi64((__m128i *)to, _mm_insert_epi16(four, table[d], 3));
#else
    const uint64_t low = (uint16_t)table[a] | (uint32_t)(uint16_t)table[b] << 16;
    const uint64_t high = (uint16_t)table[c] | (uint32_t)(uint16_t)table[d] << 16;
    const uint64_t together = low | high << 32;
    memcpy(to, &together, 8);
#endif
}

INLINE void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

enum { TILE = PIXELS * GROUPS, BAND = 1 << 16 }; /* pixels; bytes of levels */
enum { FINE_MAX = 255 << 4, LEVELS = 0, FINE = 1, RESIDUAL = 2, LAST = 3, HEAD = 4 };

typedef struct {
    int32_t mode;            /* what becomes of the table's values */
    int32_t shuffle;
    int32_t channels;        /* of the output, after the shuffle */
    int32_t outputs;         /* of the convolution, in fours */
    int32_t quads;           /* the channels in fours, the last one filled up with zero weights */
    int32_t height, width;   /* of the convolution */
    int32_t reach;           /* rows of the input below a row that it takes */
    int32_t done;            /* rows, of a worker alone on a frame */
    int32_t passes;          /* sets of weights, the digits of larger ones from the highest on */
    int32_t digit_bits;      /* of each further set */
    int32_t shift, half;     /* of the table index */
    int32_t multiplier, fraction, largest; /* of the head's samples, which need no table */
    const int32_t *runs;     /* [passes][MAX_DEPTH], how many of MAX_DEPTH taps, ..., of one tap */
    const int32_t *tap;      /* the fours of levels whose weights are not all zero, in the order of
                              * these runs: bytes from a pixel's first one on */
    const int8_t *weight;    /* VECTORS vectors together: [passes][taps][vectors][OUTPUTS][4] */
    const int32_t *bias;     /* [outputs][PIXELS]; zero point and rounding folded in */
    const int16_t *table;    /* [2 * half] */
    const int32_t *where;    /* [outputs / 4], the place of four outputs' values among a tile's */
    const uint8_t *in;       /* [rows][quads][columns][4], at the first pixel's first tap */
    int64_t in_row;          /* bytes of a row of it */
    uint8_t *out;            /* levels, likewise, at the first pixel inside of the border */
    int64_t out_row, out_quad;
    int16_t *fine;           /* [height * shuffle][quads][width * shuffle][4], sixteenths of levels */
    int32_t *scratch;        /* [workers][3][TILE][outputs] */
} Layer;

int hnv_outputs(void) { return OUTPUTS; }
int hnv_vectors(void) { return VECTORS; }
int hnv_pixels(void) { return PIXELS; }
int hnv_tile(void) { return TILE; }
int hnv_offset(void) { return OFFSET; }
int hnv_partial(void) { return PARTIAL; }
int hnv_depth(void) { return MAX_DEPTH; }
int hnv_layer_bytes(void) { return sizeof(Layer); }

/* Neighbouring pixels of the convolution from row y and column x on. */
typedef struct {
    int32_t *index;  /* of the table: [outputs / OUTPUTS][GROUPS][OUTPUTS][PIXELS] */
    int16_t *values; /* of the table, as they lie in the output: [shuffle][quads][TILE * shuffle][4] */
    int y, x, count;         /* of pixels, without those beyond the right edge */
    unsigned quad, pixel;    /* whose values are looked up next */
} Tile;

/* The table's values for four outputs of four pixels. Faster than the processors' own gathering. */
INLINE void look_up(const int16_t *table, const int32_t *where, int64_t step, Tile *tile) {
    const int32_t *index = tile->index + 4 * TILE * tile->quad +
                           OUTPUTS * PIXELS * (tile->pixel / PIXELS) + tile->pixel % PIXELS;
    int16_t *to = tile->values + where[tile->quad] + step * tile->pixel;
    enum { O1 = 1 / OUTPUTS * OUTPUTS * TILE + 1 % OUTPUTS * PIXELS,
           O2 = 2 / OUTPUTS * OUTPUTS * TILE + 2 % OUTPUTS * PIXELS,
           O3 = 3 / OUTPUTS * OUTPUTS * TILE + 3 % OUTPUTS * PIXELS };
    for (int p = 0; p < 4; p++, index++, to += step)
        gather_four(to, table, index[0], index[O1], index[O2], index[O3]);
    tile->pixel += 4;
    if ((int)tile->pixel >= tile->count) tile->pixel = 0, tile->quad++;
}

/* Fours of outputs that have values in the table. */
INLINE unsigned looked_up(const Layer *l, const Tile *tile) {
#ifdef CONVOLUTIONS_ONLY /* as tools/bench_speed measures */
    return 0;
#endif
    return tile->count && l->mode != HEAD ? l->outputs / 4 : 0;
}

/* Where the sums of a vector of outputs have got to. */
typedef struct {
    const int32_t *tap;
    const int8_t *weight;
    Tile before; /* whose values are looked up meanwhile: that takes other units of the processor */
} Progress;

/* Adds the products of as many runs of `depth` taps to the sums. */
INLINE void add_runs(const Layer *l, Sums sums[][GROUPS], const uint8_t *in, Progress *at, int runs,
                     const int vectors, const int groups, const int depth) {
    const int16_t *table = l->table + l->half;
    const unsigned wanted = looked_up(l, &at->before);
    const int64_t spread = 4 * l->shuffle;
    for (; runs > 0; runs--, at->tap += depth) {
        Sums partial[VECTORS][GROUPS];
        for (int v = 0; v < vectors; v++)
            for (int g = 0; g < groups; g++)
                partial[v][g] = MAX_DEPTH > 1 ? broadcast(0) : sums[v][g];
        for (int d = 0; d < depth; d++) {
            Weights weights[VECTORS];
            for (int v = 0; v < vectors; v++, at->weight += 4 * OUTPUTS)
                weights[v] = load_weights(at->weight);
            for (int g = 0; g < groups; g++) {
                const Levels levels = load_levels(in + at->tap[d] + 4 * PIXELS * g);
                for (int v = 0; v < vectors; v++)
                    partial[v][g] = dots(partial[v][g], levels, weights[v]);
            }
        }
        for (int v = 0; v < vectors; v++)
            for (int g = 0; g < groups; g++)
                sums[v][g] =
                    MAX_DEPTH > 1 ? add(sums[v][g], widened(partial[v][g])) : partial[v][g];
        if (at->before.quad < wanted) look_up(table, l->where, spread, &at->before);
    }
}

/* Table indices of `groups` groups of pixels from `in` on, for `vectors` vectors of outputs from
 * `first` on. Meanwhile the values of the tile before are looked up. Returns where the next vectors'
 * weights are. */
INLINE const int8_t *convolve(const Layer *l, const int8_t *weight, const uint8_t *in, int32_t *index,
                              Tile *before, int first, const int vectors, const int groups) {
    Progress at = {l->tap, weight, *before};
    const int32_t *runs = l->runs;
    Sums sums[VECTORS][GROUPS];
    for (int v = 0; v < vectors; v++)
        for (int g = 0; g < groups; g++) sums[v][g] = broadcast(0);
    for (int pass = 0; pass < l->passes; pass++) {
        if (pass)
            for (int v = 0; v < vectors; v++)
                for (int g = 0; g < groups; g++)
                    sums[v][g] = shift_left(sums[v][g], l->digit_bits);
        if (MAX_DEPTH >= 4) add_runs(l, sums, in, &at, *runs++, vectors, groups, 4);
        if (MAX_DEPTH >= 3) add_runs(l, sums, in, &at, *runs++, vectors, groups, 3);
        if (MAX_DEPTH >= 2) add_runs(l, sums, in, &at, *runs++, vectors, groups, 2);
        add_runs(l, sums, in, &at, *runs++, vectors, groups, 1);
    }
    *before = at.before;
    const Sums low = broadcast(-l->half), high = broadcast(l->half - 1);
    for (int v = 0; v < vectors; v++) {
        const Sums bias = load(l->bias + PIXELS * OUTPUTS * (first + v));
        for (int g = 0; g < groups; g++)
            store(index + PIXELS * OUTPUTS * (GROUPS * (first + v) + g),
                  clip(shift_right(add(sums[v][g], bias), l->shift), low, high));
    }
    return at.weight;
}

INLINE int16_t clip_fine(int16_t v) { return v < 0 ? 0 : v > FINE_MAX ? FINE_MAX : v; }

/* `n` values of the table where they belong. */
INLINE void put_some(const int mode, const int16_t *restrict values, uint8_t *restrict out,
                     int16_t *restrict fine, const int n) {
    for (int i = 0; i < n; i++) {
        int16_t v = values[i];
        if (mode == RESIDUAL || mode == LAST) v = clip_fine((int16_t)(v + fine[i]));
        if (mode == RESIDUAL || mode == FINE) fine[i] = v;
        out[i] = (uint8_t)(mode == LEVELS ? v : (int16_t)(v + 8) >> 4);
    }
}

INLINE void put(const int mode, const int16_t *values, uint8_t *out, int16_t *fine, int n) {
    int i = 0; /* loops of constant length become vectors */
    for (; i + 64 <= n; i += 64) put_some(mode, values + i, out + i, fine + i, 64);
    for (; i < n; i += 4) put_some(mode, values + i, out + i, fine + i, 4);
}

/* The head's samples at a tile's indices; as functions of their own, else gcc makes no vectors. Beyond
 * the frame's edge indices may be anything, so that products are of unsigned numbers, which may wrap. */
#define SAMPLES(name, type)                                                                          \
    static __attribute__((noinline)) void name(const int32_t *restrict index, type *restrict to,    \
                                               int32_t multiplier, int32_t fraction, int32_t largest) { \
        for (int p = 0; p < TILE; p++) {                                                             \
            const uint32_t product = (uint32_t)index[p] * (uint32_t)multiplier;                      \
            const int32_t v = (int32_t)(product + (1u << fraction >> 1)) >> fraction;                \
            to[p] = (type)(v < 0 ? 0 : v > largest ? largest : v);                                   \
        }                                                                                            \
    }
SAMPLES(samples_of_a_byte, uint8_t)
SAMPLES(samples_of_two_bytes, uint16_t)

/* The head's samples of a tile. */
static inline void put_samples(const Layer *l, const Tile *tile, void *samples) {
    const int size = l->largest > 255 ? 2 : 1;
    for (int c = 0; c < l->channels; c++) {
        const int32_t *index = tile->index + c / OUTPUTS * OUTPUTS * TILE + c % OUTPUTS * PIXELS;
        const int64_t at = ((int64_t)c * l->height + tile->y) * l->width + tile->x;
        int32_t row[TILE];
        uint16_t some[TILE];
        void *to = (uint8_t *)samples + size * at, *whole = tile->count == TILE ? to : some;
        if (OUTPUTS > 1) {
            for (int g = 0; g < GROUPS; g++)
                memcpy(row + PIXELS * g, index + PIXELS * OUTPUTS * g, sizeof *row * PIXELS);
            index = row;
        }
        if (size == 1) samples_of_a_byte(index, whole, l->multiplier, l->fraction, l->largest);
        else samples_of_two_bytes(index, whole, l->multiplier, l->fraction, l->largest);
        if (whole != to) memcpy(to, some, (size_t)(size * tile->count));
    }
}

/* Writes what becomes of a tile. */
static inline void place(const Layer *l, Tile *tile, void *samples) {
#ifdef CONVOLUTIONS_ONLY
    return;
#endif
    if (l->mode == HEAD) {
        put_samples(l, tile, samples);
        return;
    }
    const int s = l->shuffle, n = 4 * s * tile->count;
    while (tile->quad < looked_up(l, tile))
        look_up(l->table + l->half, l->where, 4 * s, tile);
    const int16_t *values = tile->values;
    for (int dy = 0; dy < s; dy++)
        for (int q = 0; q < l->quads; q++, values += 4 * TILE * s) {
            const int64_t row = (int64_t)tile->y * s + dy, column = 4 * (int64_t)tile->x * s;
            uint8_t *out = l->out + row * l->out_row + q * l->out_quad + column;
            int16_t *fine = l->fine + (row * l->quads + q) * l->width * s * 4 + column;
            for (int i = 0; l->mode != LEVELS && i < n; i += 32) { /* of the tile after the next */
                __builtin_prefetch(out + 2 * n + i, 1);
                __builtin_prefetch(fine + 2 * n + i, 1);
            }
            if (l->mode == LEVELS) put(LEVELS, values, out, fine, n);
            else if (l->mode == FINE) put(FINE, values, out, fine, n);
            else if (l->mode == RESIDUAL) put(RESIDUAL, values, out, fine, n);
            else put(LAST, values, out, fine, n);
        }
}

/* All indices of a tile. */
INLINE void convolve_tile(const Layer *l, Tile *tile, Tile *before, const int groups) {
    const uint8_t *in = l->in + tile->y * l->in_row + 4 * (int64_t)tile->x;
    const int8_t *w = l->weight;
    const int vectors = l->outputs / OUTPUTS;
    int32_t *index = tile->index;
    int first = 0;
    for (; first + VECTORS <= vectors; first += VECTORS)
        w = convolve(l, w, in, index, before, first, VECTORS, groups);
    const int rest = OUTPUTS == 4 ? vectors - first : 0; /* outputs come in fours */
    if (rest == 3) convolve(l, w, in, index, before, first, 3, groups);
    if (rest == 2) convolve(l, w, in, index, before, first, 2, groups);
    if (rest == 1) convolve(l, w, in, index, before, first, 1, groups);
}

/* Rows `from` to `to` (exclusive) of one layer. */
static inline void run_rows(const Layer *l, int from, int to, int32_t *scratch, void *samples) {
    const int64_t n = TILE * (int64_t)l->outputs;
    Tile tiles[2] = {{.index = scratch, .values = (int16_t *)(scratch + 2 * n)},
                     {.index = scratch + n, .values = (int16_t *)(scratch + 2 * n) + n}};
    Tile *tile = tiles, *before = tiles + 1, *other;
    for (int y = from; y < to; y++)
        for (int x = 0, pixels; x < l->width; x += pixels) {
            const int left = l->width - x, whole = left > TILE - PIXELS;
            pixels = whole ? TILE : PIXELS;
            other = before, before = tile, tile = other;
            tile->y = y, tile->x = x, tile->quad = tile->pixel = 0;
            tile->count = left < pixels ? left : pixels;
            if (whole) convolve_tile(l, tile, before, GROUPS);
            else convolve_tile(l, tile, before, 1);
            place(l, before, samples);
        }
    place(l, tile, samples);
}

/* Rows of layer `n` up to `to` (exclusive), after those of the layer before that they take. */
static void run_up_to(Layer *layers, int n, int to, void *samples) {
    const Layer l = layers[n];
    if (to > l.height) to = l.height;
    if (to <= l.done) return;
    if (n) {
        const int shuffle = layers[n - 1].shuffle;
        run_up_to(layers, n - 1, (to + l.reach + shuffle - 1) / shuffle, samples);
    }
    run_rows(&l, l.done, to, l.scratch, samples);
    layers[n].done = to;
}

/* Rows of a layer that are begun: from above and, times 2^32, from below; and that are done. */
typedef struct {
    _Atomic int64_t begun, done;
} Rows;

/* Begins the next rows, from above or from below: so each worker stays where it was in the layer before,
 * in what its processor has in its caches. Less and less at a time: so all are finished at once. Returns
 * how many, 0 if all are begun, and the first of them. */
static int begin_rows(Rows *rows, int height, int worker, int workers, int *first) {
    int64_t before = atomic_load(&rows->begun);
    for (;;) {
        const int above = (int)(before & 0x7FFFFFFF), below = (int)(before >> 32);
        const int some = (height - above - below + 2 * workers - 1) / (2 * workers);
        *first = worker % 2 ? height - below - some : above;
        const int64_t after = before + (worker % 2 ? (int64_t)some << 32 : some);
        if (!some || atomic_compare_exchange_weak(&rows->begun, &before, after)) return some;
    }
}

/* A frame, or one worker's share of it if there may be several `workers`, each in a thread of its own:
 * whoever is there does what is to be done, and nobody waits for one who comes late, or never.
 * embedding: what the first layer reads; samples: [channels][height][width] of the head's output;
 * rows: [count], zeros at the start; of several workers only. */
void hnv_run(Layer *layers, int count, const uint8_t *embedding, void *samples, int worker,
             int workers, Rows *rows) {
    if (workers == 1) { /* in bands of rows, which the next layer finds in the cache */
        const Layer head = layers[count - 1];
        const int band = 1 + BAND / (int)head.in_row;
        layers[0].in = embedding;
        for (int n = 0; n < count; n++) layers[n].done = 0;
        for (int y = 0; y < head.height; y += band) run_up_to(layers, count - 1, y + band, samples);
        return;
    }
    for (int n = 0; n < count; n++, rows++) {
        Layer layer = layers[n];
        if (n == 0) layer.in = embedding;
        int32_t *scratch = layer.scratch + (int64_t)worker * 3 * TILE * layer.outputs;
        for (int first, some; (some = begin_rows(rows, layer.height, worker, workers, &first));) {
            run_rows(&layer, first, first + some, scratch, samples);
            atomic_fetch_add(&rows->done, some);
        }
        for (int spins = 0; atomic_load(&rows->done) < layer.height; spins++)
            if (spins > 1000) sched_yield();
            else pause_briefly();
    }
}
