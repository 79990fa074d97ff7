/* The parts of a `.hnv` decoder that take time: range decoder, convolutions, colours, checksums. Built
 * for WebAssembly by `make_kernels`, twice: `kernel.wasm` multiplies in 16 bits, `kernel_i8.wasm` in 8
 * (relaxed SIMD). Integers only. `hnv.js` lays out the memory and calls; nothing is allocated here.
 *
 * Section numbers are those of spec/bitstream.md. */

#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

typedef int32_t V4 __attribute__((vector_size(16)));

/* ---------------------------------------------------------------- CRC-32 (section 1) */

static uint32_t crc_table[8][256];

static void make_crc_table(void) {
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? c >> 1 ^ 0xEDB88320u : c >> 1;
        crc_table[0][n] = c;
    }
    for (int n = 0; n < 256; n++)
        for (int k = 1; k < 8; k++)
            crc_table[k][n] = crc_table[k - 1][n] >> 8 ^ crc_table[0][crc_table[k - 1][n] & 255];
}

EXPORT uint32_t crc32(const uint8_t *data, uint32_t size) {
    if (!crc_table[0][1]) make_crc_table();
    uint32_t c = 0xFFFFFFFFu;
    for (; size >= 8; size -= 8, data += 8) {
        uint32_t low, high;
        __builtin_memcpy(&low, data, 4);
        __builtin_memcpy(&high, data + 4, 4);
        low ^= c;
        c = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255] ^
            crc_table[4][low >> 24] ^ crc_table[3][high & 255] ^ crc_table[2][high >> 8 & 255] ^
            crc_table[1][high >> 16 & 255] ^ crc_table[0][high >> 24];
    }
    while (size--) c = c >> 8 ^ crc_table[0][(c ^ *data++) & 255];
    return ~c;
}

/* ---------------------------------------------------------------- 7. Frequency tables */

static uint32_t cdf[2 * 8191 + 2];
static uint64_t weight[8192];
static int32_t max_level;

EXPORT void set_table(int32_t m, uint32_t zero, uint32_t decay) {
    max_level = m;
    if (m == 0) return; /* nothing is coded */
    const uint64_t ratio = 65536 - ((31 - decay % 16) << (11 - decay / 16));
    uint64_t total = weight[1] = 1u << 30;
    for (int k = 2; k <= m; k++) total += weight[k] = weight[k - 1] * ratio >> 16;
    const uint64_t spare = ((1u << 24) - ((2 * zero + 1) << 15)) / 2 - m;
    uint32_t sum = 0;
    for (int k = 1; k <= m; k++) { /* f(k) in the place of cdf of its level */
        cdf[m + k] = 1 + (uint32_t)(weight[k] * spare / total);
        sum += cdf[m + k];
    }
    cdf[m] = (1u << 24) - 2 * sum;
    for (int k = 1; k <= m; k++) cdf[m - k] = cdf[m + k];
    uint32_t below = 0;
    for (int i = 0; i <= 2 * m; i++) {
        const uint32_t f = cdf[i];
        cdf[i] = below;
        below += f;
    }
    cdf[2 * m + 1] = below;
}

/* ---------------------------------------------------------------- 8. Range coder */

static const uint8_t *words;
static uint32_t word_count, calls;
static uint64_t low, range, point;

static uint64_t next(void) {
    uint32_t word = 0;
    if (calls < word_count) __builtin_memcpy(&word, words + 4 * calls, 4);
    calls += calls < 0xFFFFFFFFu;
    return word;
}

EXPORT void start_levels(const uint8_t *coded_levels, uint32_t coded_words) {
    words = coded_levels, word_count = coded_words, calls = 0;
    low = 0, range = ~0ull;
    point = next() << 32;
    point |= next();
}

enum { CORRUPT = 1 << 20 };

INLINE int32_t next_level(void) {
    if (max_level == 0) return 0;
    const uint64_t scale = range >> 24, q = (point - low) / scale;
    if (q >= 1u << 24) return CORRUPT;
    uint32_t i = 0, above = 2 * max_level + 1; /* cdf[i] <= q < cdf[above] */
    while (above - i > 1) {
        const uint32_t middle = (i + above) / 2;
        if (cdf[middle] <= q) i = middle;
        else above = middle;
    }
    low += scale * cdf[i];
    range = scale * (cdf[i + 1] - cdf[i]);
    if (range < 1ull << 32) {
        low <<= 32, range <<= 32;
        point = point << 32 | next();
    }
    return (int32_t)i - max_level;
}

/* `count` levels of the current table; 0 if they are corrupt. */
EXPORT int read_levels(int16_t *to, uint32_t count) {
    while (count--) {
        const int32_t level = next_level();
        if (level == CORRUPT) return 0;
        *to++ = (int16_t)level;
    }
    return 1;
}

/* 6.1: levels of an embedding, each `base` plus what is coded, or, with `base` < 0, plus the level
 * `step` before it; 0 if they are corrupt or leave 0..255. Frames are `step` bytes apart. */
EXPORT int read_embedding(uint8_t *to, uint32_t frames, uint32_t count, uint32_t step, int32_t base) {
    for (uint32_t t = 0; t < frames; t++, to += step)
        for (uint32_t n = 0; n < count; n++) {
            const int32_t level = next_level() + (base < 0 ? to[(int32_t)(n - step)] : base);
            if (level & ~255) return 0;
            to[n] = (uint8_t)level;
        }
    return 1;
}

EXPORT int levels_end(void) {
    return calls >= word_count && (range == ~0ull || point - low < (1ull << 33) - 1);
}

/* ---------------------------------------------------------------- 9. Synthesis */

/* BLOCK: outputs whose sums stay in registers, of TILE pixels. */
enum { BLOCK = 8, TILE = 4, FINE_MAX = 255 << 4, PLAIN = 0, FINE = 1, RESIDUAL = 2, HEAD = 3 };

typedef struct {
    int32_t mode;           /* what becomes of the table's values */
    int32_t kernel, shuffle;
    int32_t inputs;         /* of the convolution, filled up to a multiple of GROUP (layers.h) */
    int32_t channels;       /* of the output, after the shuffle */
    int32_t blocks;         /* of BLOCK outputs of the convolution */
    int32_t height, width;  /* of the convolution */
    int32_t shift, half;    /* of the table's index, -half..half - 1 */
    int32_t offset;         /* what the next layer takes from each level */
    const void *weight;     /* [blocks][kernel][kernel][inputs / GROUP][BLOCK][GROUP] */
    const int32_t *bias;    /* [blocks * BLOCK], rounding and corrections folded in */
    const int16_t *table;   /* [2 * half] */
    const void *in;         /* [height + kernel - 1][width + kernel - 1][inputs] */
    void *out;              /* at the first pixel inside of the border */
    int32_t bytes;          /* of a level there */
    int32_t out_row, out_pixel; /* in levels */
    int16_t *fine;          /* [height * shuffle][width * shuffle][channels]: F */
    int32_t *index;         /* [TILE][blocks * BLOCK] */
    int32_t *box;           /* 8 bits: [height + kernel - 1][width + kernel - 1], then a row of it */
    uint8_t *samples;       /* HEAD: planes, in order */
    int32_t wide;           /* of two bytes a sample */
    struct { int32_t at, columns, rows, Q, R, r, c; } place[12]; /* of each packed channel (section 4) */
} Layer;

EXPORT int layer_words(void) { return sizeof(Layer) / 4; }

/* 9.1: whether sums stay below 2^24, whatever the input, and what that takes. weights: [outputs *
 * shuffle^2][size]. */
EXPORT int bounded(const int16_t *w, const int16_t *b, int outputs, int squared, int size, int zero_point,
                   int bias_shift, int shift) {
    const int64_t reach = zero_point > 255 - zero_point ? zero_point : 255 - zero_point;
    for (int o = 0; o < outputs * squared; o++) {
        int64_t sum = 0, bias = ((int64_t)b[o / squared] << bias_shift) + ((1 << shift) >> 1);
        for (int n = 0; n < size; n++) sum += *w < 0 ? -*w : *w, w++;
        if (sum * reach + (bias < 0 ? -bias : bias) >= 1 << 24) return 0;
    }
    return 1;
}

/* Lowest and highest of `count` levels: low + 65536 * high. */
EXPORT int extent(const int16_t *levels, int count) {
    int16_t low = 0, high = 0;
    for (int n = 0; n < count; n++) {
        low = levels[n] < low ? levels[n] : low;
        high = levels[n] > high ? levels[n] : high;
    }
    return (low & 0xFFFF) | high << 16;
}

INLINE V4 clip(V4 x, V4 low, V4 high) {
    return (V4)wasm_i32x4_min(wasm_i32x4_max((v128_t)x, (v128_t)low), (v128_t)high);
}

/* 9.2: the values of `n` outputs of one pixel, channels in order; `at`: of the first, in `out`. */
INLINE void put(const Layer *l, const int32_t *index, int at, int16_t *fine, int n) {
    const int16_t *table = l->table + l->half;
    int8_t *out8 = (int8_t *)l->out + at;
    int16_t *out16 = (int16_t *)l->out + at;
    if (l->mode == PLAIN) {
        if (l->bytes == 1)
            for (int i = 0; i < n; i++) out8[i] = (int8_t)table[index[i]];
        else
            for (int i = 0; i < n; i++) out16[i] = table[index[i]];
        return;
    }
    if (l->mode == FINE)
        for (int i = 0; i < n; i++) fine[i] = table[index[i]];
    else
        for (int i = 0; i < n; i++) {
            const int v = fine[i] + table[index[i]];
            fine[i] = (int16_t)(v < 0 ? 0 : v > FINE_MAX ? FINE_MAX : v);
        }
    if (l->bytes == 1)
        for (int i = 0; i < n; i++) out8[i] = (int8_t)(((fine[i] + 8) >> 4) - l->offset);
    else
        for (int i = 0; i < n; i++) out16[i] = (int16_t)(((fine[i] + 8) >> 4) - l->offset);
}

/* 9.3 and 4: samples of one pixel of the packed frame, where they belong in the planes. */
INLINE void put_samples(const Layer *l, const int32_t *index, int y, int x) {
    const int16_t *table = l->table + l->half;
    for (int n = 0; n < l->channels; n++) {
        const int i = l->place[n].R * y + l->place[n].r, j = l->place[n].Q * x + l->place[n].c;
        if (i >= l->place[n].rows || j >= l->place[n].columns) continue;
        const int at = l->place[n].at + i * l->place[n].columns + j;
        if (l->wide) ((int16_t *)l->samples)[at] = table[index[n]];
        else l->samples[at] = (uint8_t)table[index[n]];
    }
}

#define GROUP 2
#define OF(name) name##16
#include "layers.h"

#ifdef __wasm_relaxed_simd__
#undef GROUP
#undef OF
#define GROUP 4
#define OF(name) name##8
#include "layers.h"
#endif

/* ---------------------------------------------------------------- RGB, as ffmpeg's swscale makes it */

typedef struct {
    int32_t width, height;  /* of the frame and the luma plane */
    int32_t depth, planes;  /* bits of a sample; 1 or 3 */
    int32_t columns, rows;  /* of a chroma plane */
    const uint8_t *luma, *chroma[2];
    uint8_t *out;           /* [height][width][4] */
    int16_t *across;        /* [2][rows][width]: chroma in full width, 15 bits */
    int16_t *row;           /* [EDGE + columns + EDGE]: of a chroma plane */
    int32_t *down;          /* [2][width]: a row of chroma in full height */
    int32_t taps[2];        /* across and down */
    const int32_t *at[2];   /* [width], [height]: the first sample that counts, may lie outside */
    const int16_t *tap[2];  /* [width][taps], [height][taps]: their sums are 2^14 and 2^12 */
    int32_t y_offset, y, v_r, u_g, v_g, u_b; /* 13 fractional bits */
    int32_t direct;         /* planes are G, B and R */
} Picture;

INLINE int32_t sample(const uint8_t *plane, int depth, int n) {
    return depth == 8 ? plane[n] : plane[2 * n] | plane[2 * n + 1] << 8;
}

enum { EDGE = 8 }; /* samples before and after a row, as its filter reaches beyond it */

INLINE int inside(int n, int size) { return n < 0 ? 0 : n >= size ? size - 1 : n; }

INLINE void widen_row(const Picture *p, int16_t *to, const int taps) {
    const int16_t *tap = p->tap[0];
    for (int x = 0; x < p->width; x++, tap += taps) {
        const int16_t *from = p->row + EDGE + p->at[0][x];
        int32_t sum = 0;
        for (int n = 0; n < taps; n++) sum += tap[n] * from[n];
        sum >>= p->depth - 1;
        to[x] = (int16_t)(sum > 32767 ? 32767 : sum);
    }
}

static void widen(const Picture *p) {
    for (int c = 0; c < 2; c++)
        for (int y = 0; y < p->rows; y++) {
            int16_t *to = p->across + (c * p->rows + y) * p->width;
            for (int x = -EDGE; x < p->columns + EDGE; x++)
                p->row[EDGE + x] = (int16_t)sample(p->chroma[c], p->depth,
                                                   y * p->columns + inside(x, p->columns));
            if (p->taps[0] == 5) widen_row(p, to, 5);
            else if (p->taps[0] == 4) widen_row(p, to, 4);
            else widen_row(p, to, p->taps[0]);
        }
}

INLINE void add_row(int32_t *restrict to, const int16_t *restrict from, int32_t tap, int width) {
    for (int x = 0; x < width; x++) to[x] += tap * from[x];
}

/* A row of chroma between those of its plane, less its middle. */
static void lower(const Picture *p, int y) {
    const int width = p->width;
    for (int c = 0; c < 2; c++) {
        int32_t *to = p->down + c * width;
        for (int x = 0; x < width; x++) to[x] = (1 << 9) - (128 << 19);
        for (int n = 0; n < p->taps[1]; n++) {
            const int at = c * p->rows + inside(p->at[1][y] + n, p->rows);
            const int32_t tap = p->tap[1][y * p->taps[1] + n];
            if (tap) add_row(to, p->across + at * width, tap, width);
        }
        for (int x = 0; x < width; x++) to[x] >>= 10;
    }
}

INLINE uint32_t channel(int32_t v) { /* 30 bits to 8 */
    v = v < 0 ? 0 : v;
    return (uint32_t)(v > (1 << 30) - 1 ? (1 << 30) - 1 : v) >> 22;
}

INLINE void put_row(const Picture *p, const uint8_t *restrict luma, uint32_t *restrict out,
                    const int32_t *restrict u, const int32_t *restrict v, const int wide) {
    const int width = p->width, shift = 15 - p->depth;
    const int32_t y_offset = p->y_offset, gain = p->y, v_r = p->v_r, v_g = p->v_g, u_g = p->u_g,
                  u_b = p->u_b;
    for (int x = 0; x < width; x++) {
        int32_t l = (wide ? ((const uint16_t *)luma)[x] : luma[x]) << shift << 2;
        l = (l - y_offset) * gain + (1 << 21);
        out[x] = channel(l + v[x] * v_r) | channel(l + v[x] * v_g + u[x] * u_g) << 8 |
                 channel(l + u[x] * u_b) << 16 | 255u << 24;
    }
}

EXPORT void to_rgba(const Picture *p) {
    uint8_t *out = p->out;
    if (p->direct) { /* 4:4:4 */
        const int shift = p->depth - 8, half = shift ? 1 << (shift - 1) : 0;
        for (int n = 0; n < p->width * p->height; n++, out += 4) {
            const uint8_t *planes[3] = {p->chroma[1], p->luma, p->chroma[0]};
            for (int c = 0; c < 3; c++) {
                const int v = (sample(planes[c], p->depth, n) + half) >> shift;
                out[c] = (uint8_t)(v > 255 ? 255 : v);
            }
            out[3] = 255;
        }
        return;
    }
    for (int x = 0; x < 2 * p->width; x++) p->down[x] = 0; /* grey */
    if (p->planes == 3) widen(p);
    for (int y = 0; y < p->height; y++) {
        if (p->planes == 3) lower(p, y);
        uint32_t *out = (uint32_t *)p->out + y * p->width;
        const int32_t *u = p->down, *v = p->down + p->width;
        if (p->depth == 8) put_row(p, p->luma + y * p->width, out, u, v, 0);
        else put_row(p, p->luma + 2 * y * p->width, out, u, v, 1);
    }
}
