/* The layers of `kernel.c` for one width of their operands: with GROUP 2 levels are int16_t, less the
 * zero point, and weights int16_t. With GROUP 4 they are int8_t, levels less 128 and weights, which have
 * to lie in -64..63, plus 64, as the products of bytes take one operand of 7 bits. OF gives names. */

#if GROUP == 4
typedef int8_t OF(Level);
enum { OF(SHIFTED) = 64 };
INLINE V4 OF(dot)(V4 sums, v128_t levels, v128_t weights) {
    typedef signed char Bytes __attribute__((vector_size(16)));
    return __builtin_wasm_relaxed_dot_i8x16_i7x16_add_s_i32x4((Bytes)levels, (Bytes)weights, sums);
}
#else
typedef int16_t OF(Level);
enum { OF(SHIFTED) = 0 };
INLINE V4 OF(dot)(V4 sums, v128_t levels, v128_t weights) {
    return sums + (V4)wasm_i32x4_dot_i16x8(levels, weights);
}
#endif

/* Weights [channels * s * s][inputs][k][k] and biases as a layer wants them: the outputs in the order
 * in which they are written, (row, column, channel). zero_point: of the layer's input. */
EXPORT void OF(pack)(const Layer *l, const int16_t *w, const int16_t *b, int inputs, int zero_point,
                 int bias_shift) {
    const int squared = l->shuffle * l->shuffle, outputs = l->channels * squared;
    const int area = l->kernel * l->kernel, groups = l->inputs / GROUP;
    OF(Level) *to = (OF(Level) *)l->weight;
    int32_t *bias = (int32_t *)l->bias;
    for (int j = 0; j < l->blocks * BLOCK; j++) {
        const int o = j < outputs ? j % l->channels * squared + j / l->channels : -1;
        OF(Level) *block = to + j / BLOCK * area * groups * BLOCK * GROUP + j % BLOCK * GROUP;
        bias[j] = o < 0 ? 0 : (b[o / squared] << bias_shift) + ((1 << l->shift) >> 1);
        for (int at = 0; at < area; at++)
            for (int i = 0; i < l->inputs; i++) {
                const int level = o >= 0 && i < inputs ? w[(o * inputs + i) * area + at] : 0;
                if (GROUP == 4) bias[j] += (128 - zero_point) * level;
                block[(at * groups + i / GROUP) * BLOCK * GROUP + i % GROUP] =
                    (OF(Level))(i < inputs ? level + OF(SHIFTED) : 0);
            }
    }
}

#if GROUP == 4
/* Sums of all levels under the kernel, for a row: OF(SHIFTED) times that is too much in each dot product. */
INLINE void OF(sum_levels)(const Layer *l) {
    const int width = l->width + l->kernel - 1, pixels = width * (l->height + l->kernel - 1);
    const OF(Level) *in = l->in;
    for (int n = 0; n < pixels; n++) {
        int32_t sum = 0;
        for (int i = 0; i < l->inputs; i++) sum += *in++;
        l->box[n] = sum;
    }
}
INLINE int32_t *OF(box_row)(const Layer *l, int y) {
    const int width = l->width + l->kernel - 1;
    int32_t *row = l->box + width * (l->height + l->kernel - 1);
    for (int x = 0; x < width; x++) row[x] = 0;
    for (int dy = 0; dy < l->kernel; dy++)
        for (int x = 0; x < width; x++) row[x] += l->box[(y + dy) * width + x];
    for (int x = 0; x < l->width; x++) { /* in place: the sum of x needs none before it */
        int32_t sum = 0;
        for (int dx = 0; dx < l->kernel; dx++) sum += row[x + dx];
        row[x] = OF(SHIFTED) * sum;
    }
    return row;
}
#endif

/* Table indices of TILE pixels whose window begins at `in`, for all outputs. */
INLINE void OF(convolve)(const Layer *l, const OF(Level) *in, const int32_t *box) {
    const int pixel = l->inputs, row = pixel * (l->width + l->kernel - 1);
    const int steps = l->kernel * l->inputs / GROUP, stride = l->blocks * BLOCK;
    const V4 lowest = {-l->half, -l->half, -l->half, -l->half}, highest = -1 - lowest;
    const OF(Level) *w = l->weight;
    for (int b = 0; b < l->blocks; b++) {
        V4 sums[TILE][2];
        for (int t = 0; t < TILE; t++) sums[t][0] = sums[t][1] = (V4){0};
        for (int dy = 0; dy < l->kernel; dy++) {
            const OF(Level) *a = in + dy * row;
            for (int n = 0; n < steps; n++, a += GROUP, w += BLOCK * GROUP) {
                const v128_t first = wasm_v128_load(w), second = wasm_v128_load(w + 4 * GROUP);
#pragma clang loop unroll(full)
                for (int t = 0; t < TILE; t++) {
                    const v128_t levels = wasm_v128_load32_splat(a + t * pixel);
                    sums[t][0] = OF(dot)(sums[t][0], levels, first);
                    sums[t][1] = OF(dot)(sums[t][1], levels, second);
                }
            }
        }
        const V4 *bias = (const V4 *)(l->bias + b * BLOCK);
        for (int t = 0; t < TILE; t++) {
            V4 *to = (V4 *)(l->index + t * stride + b * BLOCK);
            const int32_t extra = GROUP == 4 ? box[t] : 0;
            sums[t][0] -= extra, sums[t][1] -= extra;
            to[0] = clip((sums[t][0] + bias[0]) >> l->shift, lowest, highest);
            to[1] = clip((sums[t][1] + bias[1]) >> l->shift, lowest, highest);
        }
    }
}

EXPORT void OF(run_layer)(const Layer *l) {
    const int s = l->shuffle, pixel = l->inputs, row = pixel * (l->width + l->kernel - 1);
    const int stride = l->blocks * BLOCK, channels = l->channels;
#if GROUP == 4
    OF(sum_levels)(l);
#endif
    for (int y = 0; y < l->height; y++) {
#if GROUP == 4
        const int32_t *box = OF(box_row)(l, y);
#else
        const int32_t *box = 0;
#endif
        for (int x = 0; x < l->width; x += TILE) {
            const int tile = l->width - x < TILE ? l->width - x : TILE;
            OF(convolve)(l, (const OF(Level) *)l->in + y * row + x * pixel, box + x);
            for (int t = 0; t < tile; t++) {
                const int32_t *index = l->index + t * stride;
                if (l->mode == HEAD) {
                    put_samples(l, index, y, x + t);
                    continue;
                }
                for (int m = 0; m < s; m++)
                    for (int n = 0; n < s; n++, index += channels) {
                        const int at_row = y * s + m, at = (x + t) * s + n;
                        put(l, index, at_row * l->out_row + at * l->out_pixel,
                            l->fine + (at_row * l->width * s + at) * channels, channels);
                    }
            }
        }
    }
}

/* The embedding of frame e, or p / q of the way from it to the next (9.4), as the stem's input:
 * [channels][area] becomes [area][inputs]. p < q < 2^32. */
EXPORT void OF(embed)(const uint8_t *e, const uint8_t *next, uint32_t p, uint32_t q, OF(Level) *to, int channels,
                  int area, int inputs, int offset) {
    for (int c = 0; c < channels; c++)
        for (int n = 0; n < area; n++) {
            const int at = c * area + n;
            uint64_t level = e[at];
            if (p) level = (level * (q - p) + (uint64_t)next[at] * p + (q >> 1)) / q;
            to[n * inputs + c] = (OF(Level))((int)level - offset);
        }
}

EXPORT void OF(fill)(OF(Level) *to, int count, int value, int inputs, int used) {
    for (int n = 0; n < count; n++) to[n] = (OF(Level))(n % inputs < used ? value : 0);
}
