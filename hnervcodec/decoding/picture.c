/* Packed 8-bit 4:2:0 samples become a picture: luma in raster order, and RGB as ffmpeg's swscale makes
 * it with the flags bicubic, accurate_rnd and full_chroma_int, bit for bit. `picture_library.py` compiles
 * this; `rgb.py` says what the weights are.
 *
 * Even and odd columns are computed apart, as they lie in packed samples: loops over neighbours become
 * vectors. Rows of them are filled up to multiples of BLOCK, so that nothing remains at their ends. */

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { TAPS = 4, BLOCK = 32 };

typedef struct {
    int32_t height, width;                   /* of a packed channel, half of the picture's */
    int32_t luma, black;                     /* (512 * Y' - black) * luma, */
    int32_t red_v, green_v, green_u, blue_u; /* and what Cb and Cr add to it; / 2^22 */
    const int16_t *across;                   /* [even, odd][TAPS][width, filled up], / 2^14 */
    const int16_t *down;                     /* [2 * height][TAPS], / 2^12 */
} Picture;

int hnv_picture_block(void) { return BLOCK; }

/* Even or odd columns of a row of chroma, / 2^7 of a level. from: of TAPS samples, the first. */
INLINE void widen(const int16_t *restrict from, const int16_t *across, int16_t *restrict to, int n) {
    const int16_t *a = across, *b = a + n, *c = b + n, *d = c + n;
    for (int x = 0; x < (n & -BLOCK); x++) {
        const int32_t sum = from[x] * a[x] + from[x + 1] * b[x] + from[x + 2] * c[x] + from[x + 3] * d[x];
        to[x] = (int16_t)(sum >> 7 > 32767 ? 32767 : sum >> 7);
    }
}

INLINE uint8_t to_byte(uint32_t sum) { /* which wraps where swscale's does */
    int16_t v = (int16_t)((int32_t)sum >> 22);
    v = v < 0 ? 0 : v;
    return (uint8_t)(v > 255 ? 255 : v);
}

/* Even or odd columns of a row: red, green and blue. u, v: of TAPS rows, `step` apart. */
INLINE void colour(const Picture *p, const uint8_t *restrict luma, const int16_t *const *u,
                   const int16_t *const *v, const int16_t *down, uint8_t *restrict to, int n) {
    const int16_t *u0 = u[0], *u1 = u[1], *u2 = u[2], *u3 = u[3];
    const int16_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    const int16_t a = down[0], b = down[1], c = down[2], d = down[3];
    const uint32_t red_v = (uint32_t)p->red_v, green_v = (uint32_t)p->green_v;
    const uint32_t green_u = (uint32_t)p->green_u, blue_u = (uint32_t)p->blue_u;
    const int32_t black = p->black, scale = p->luma, centre = (1 << 9) - (128 << 19);
    for (int x = 0; x < (n & -BLOCK); x++) {
        const uint32_t cb = (uint32_t)((u0[x] * a + u1[x] * b + u2[x] * c + u3[x] * d + centre) >> 10);
        const uint32_t cr = (uint32_t)((v0[x] * a + v1[x] * b + v2[x] * c + v3[x] * d + centre) >> 10);
        const uint32_t y = (uint32_t)((luma[x] * 512 - black) * scale + (1 << 21));
        to[x] = to_byte(y + cr * red_v);
        to[n + x] = to_byte(y + cr * green_v + cb * green_u);
        to[2 * n + x] = to_byte(y + cb * blue_u);
    }
}

INLINE void interleave(const uint8_t *restrict even, const uint8_t *restrict odd, uint8_t *restrict to, int n) {
    for (int x = 0; x < n; x++) to[2 * x] = even[x], to[2 * x + 1] = odd[x];
}

/* packed: 6 channels of which height x width count, `channel` and in them `row` samples apart; scratch:
 * [20][width, filled up, and TAPS]; planes: [Y, Cb, Cr]; rgb: [3][2 * height][2 * width]. */
void hnv_picture(const Picture *p, const uint8_t *packed, int64_t channel, int64_t row, int16_t *scratch,
                 uint8_t *planes, uint8_t *rgb) {
    const int h = p->height, w = p->width, n = (w + BLOCK - 1) / BLOCK * BLOCK;
    const int64_t plane = 4 * (int64_t)h * w;
    int16_t *line = scratch, *wide = scratch + n + TAPS; /* [4 rows][even, odd][Cb, Cr][n] */
    uint8_t *columns = (uint8_t *)(wide + 16 * n);      /* [even, odd][3][n] */
    memset(line, 0, sizeof *line * (size_t)(n + TAPS));   /* two before it and what is behind it */
    for (int y = 0, ready = 0; y < 2 * h; y++) {
        const int i = y / 2, first = i - 2 + y % 2; /* row of chroma of TAPS */
        for (; ready < first + TAPS && ready < h; ready++)
            for (int c = 0; c < 2; c++) {
                const uint8_t *from = packed + (4 + c) * channel + ready * row;
                int16_t *to = wide + (4 * (ready % TAPS) + c) * n;
                memcpy(planes + plane + (c * h + ready) * (int64_t)w, from, (size_t)w);
                for (int x = 0; x < w; x++) line[x + 2] = from[x];
                widen(line, p->across, to, n);
                widen(line + 1, p->across + TAPS * n, to + 2 * n, n);
            }
        const uint8_t *levels = packed + 2 * (y % 2) * channel + i * row; /* others behind it */
        for (int odd = 0; odd < 2; odd++) {
            const int16_t *u[TAPS], *v[TAPS];
            for (int k = 0; k < TAPS; k++) {
                const int at = first + k < 0 ? 0 : first + k < h ? first + k : h - 1; /* else weightless */
                u[k] = wide + (4 * (at % TAPS) + 2 * odd) * n;
                v[k] = u[k] + n;
            }
            colour(p, levels + odd * channel, u, v, p->down + TAPS * y, columns + 3 * odd * n, n);
        }
        const int64_t at = 2 * (int64_t)y * w;
        interleave(levels, levels + channel, planes + at, w);
        for (int c = 0; c < 3; c++)
            interleave(columns + c * n, columns + (3 + c) * n, rgb + c * plane + at, w);
    }
}
