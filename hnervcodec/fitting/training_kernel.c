/* The synthesis network's layers in float32 with their gradients, for one training step: convolution,
 * GELU, residual sum, clipping, rounding and pixel shuffle in one pass over memory, and back.
 * `synthesis_network.py` says the same with torch, and the tests compare the two. `training_kernel.py`
 * compiles this file.
 *
 * Memory is [row][column][channel] with channels rounded up to whole vectors. The output channels of a
 * convolution before its shuffle are ordered [dy][dx][channel], so that the shuffle is a choice of where
 * vectors go. Inputs of convolutions have a border of zeros around them.
 *
 * Where the processor multiplies pairs of bfloat16, convolutions do: weights, their inputs and the
 * gradients of their sums are rounded to it, and the sums are float32. Weights then stand in pairs of
 * inputs, [kernel][kernel][in / 2][output][2].
 *
 * Row bands may be computed by several workers, each called from a thread of its own; they meet between
 * the layers. */

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* MAX_TILE vectors of sums stay in registers. */
#ifdef __AVX512F__
enum { LANES = 16, MAX_TILE = 24 };
#else
enum { LANES = 8, MAX_TILE = 12 };
#endif
enum { MAX_KERNEL = 7 };
typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));

/* What convolutions multiply; PAIR of them at a time. */
#ifdef __AVX512BF16__
#define PAIRS_OF_PIXELS 1
enum { PAIR = 2 };
typedef uint16_t Element;
typedef uint16_t Elements __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
#else
#define PAIRS_OF_PIXELS 0
enum { PAIR = 1 };
typedef float Element;
#endif

/* A layer, the same for all frames. Pointers to float32. */
typedef struct {
    int32_t in, out;          /* channels: of the input, of the output after the shuffle */
    int32_t kernel, shuffle;  /* width of the kernel, odd; factor of the pixel shuffle */
    int32_t height, width;    /* of the input */
    int32_t is_residual, is_head;
    int32_t rounds;           /* whether the output is clipped to low..high, and the next input rounded */
    float unit;               /* what a sum is worth */
    float scale;              /* by which the GELU's value is multiplied */
    float low, high;
    const float *weight;      /* [out * shuffle^2][in][kernel][kernel] */
    const float *bias;        /* [out], in units of the sums */
    float *weight_gradient;   /* of these shapes */
    float *bias_gradient;
    float *packed;            /* Elements [kernel][kernel][in][shuffle^2 * out vectors]; then biases */
    float *flipped;           /* Elements [kernel][kernel][shuffle^2 * out vectors][in vectors] */
    float *partial;           /* of each worker: gradients of weights and biases, like `packed` */
    int64_t input;            /* where in a frame's memory: the padded input */
    int64_t factor;           /* and the derivative of the output by a sum; 0: clipped */
} Layer;

/* Memory of one worker group: `stream` and `slope` hold a layer's unrounded output and its gradient,
 * `sums` the padded gradient of a convolution's sums. */
typedef struct {
    const Layer *layers;
    int32_t count, frames;
    const float *embedding;   /* [frames][in][height][width] */
    float *samples;           /* [frames][height][width][out] */
    const float *samples_gradient;
    float *embedding_gradient;
    float *memory;            /* [frames][frame_floats] */
    int64_t frame_floats;
    float *stream, *slope, *sums;
    float *lines;             /* of each worker: a row of sums, and rows in pairs of pixels */
    int64_t line_floats;
    _Atomic int *arrived;     /* 0 at the start of a call */
} Network;

INLINE int padded(int channels) { return (channels + LANES - 1) / LANES * LANES; }
INLINE int even(int channels) { return (channels + PAIR - 1) / PAIR * PAIR; }
INLINE int border(const Layer *l) { return l->kernel / 2; }
INLINE int outputs(const Layer *l) { return l->shuffle * l->shuffle * padded(l->out); }
INLINE int64_t input_row(const Layer *l) { return (int64_t)(l->width + 2 * border(l)) * padded(l->in); }
INLINE int64_t sums_row(const Layer *l) { return (int64_t)(l->width + 2 * border(l)) * outputs(l); }

INLINE Vector load(const float *p) { return *(const Vector *)p; }
INLINE void store(float *p, Vector x) { *(Vector *)p = x; }
INLINE Vector choose(Integers which, Vector x, Vector y) {
    return (Vector)((which & (Integers)x) | (~which & (Integers)y));
}
#ifdef __AVX512F__
INLINE Vector all(float x) { return (Vector)_mm512_set1_ps(x); }
INLINE Vector between(Vector x, Vector low, Vector high) {
    return (Vector)_mm512_min_ps(_mm512_max_ps((__m512)x, (__m512)low), (__m512)high);
}
#else
INLINE Vector all(float x) { return (Vector){x, x, x, x, x, x, x, x}; }
INLINE Vector between(Vector x, Vector low, Vector high) {
#ifdef __AVX2__
    return (Vector)_mm256_min_ps(_mm256_max_ps((__m256)x, (__m256)low), (__m256)high);
#else
    return choose(x < low, low, choose(x > high, high, x));
#endif
}
#endif

/* Rounds, stores and multiplies elements: `multiply_add` PAIR of them with their weights. */
#if PAIRS_OF_PIXELS
INLINE void put(Element *p, Vector x) {
    _mm256_storeu_si256((void *)p, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}
INLINE Vector get(const Element *p) {
    return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16);
}
INLINE Element element(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (Element)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
INLINE Vector multiply_add(Vector sums, const Element *pair, const Element *weights) {
    int32_t both;
    memcpy(&both, pair, sizeof both);
    return (Vector)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_set1_epi32(both),
                                    (__m512bh)_mm512_loadu_si512((const void *)weights));
}
static const Element zeros[LANES];
INLINE void interleave(Element *to, const Element *first, const Element *second) {
    typedef uint32_t Pairs __attribute__((vector_size(4 * LANES), aligned(2), may_alias));
    *(Pairs *)to = __builtin_convertvector(*(const Elements *)first, Pairs)
                   | __builtin_convertvector(*(const Elements *)second, Pairs) << 16;
}
#else
INLINE void put(Element *p, Vector x) { store(p, x); }
INLINE Vector get(const Element *p) { return load(p); }
INLINE Element element(float x) { return x; }
INLINE Vector multiply_add(Vector sums, const Element *one, const Element *weights) {
    return sums + all(*one) * load(weights);
}
#endif

/* Waits until all workers have come here; `turn` counts the meetings. */
static void meet(const Network *net, int workers, int *turn) {
    if (workers == 1) return;
    *turn += 1;
    atomic_fetch_add(net->arrived, 1);
    for (int spins = 0; atomic_load(net->arrived) < *turn * workers; spins++)
        if (spins > 1000) sched_yield();
}

/* GELU and its derivative: the normal distribution and its like as odd polynomials, within 1e-4. Beyond
 * EDGE they are taken for constant. */
#define EDGE 4.25f
static const float GELU[] = {3.989338901e-01f, -6.645352233e-02f, 9.925603461e-03f, -1.158377023e-03f,
                             1.056266474e-04f, -7.377937524e-06f, 3.770288823e-07f, -1.309786639e-08f,
                             2.732390288e-10f, -2.562063297e-12f};
static const float SLOPE[] = {7.977564363e-01f, -2.653926133e-01f, 5.909255313e-02f, -9.040462839e-03f,
                              9.965493064e-04f, -7.936300200e-05f, 4.432685878e-06f, -1.634922714e-07f,
                              3.552495665e-09f, -3.426810134e-11f};
INLINE Vector gelu(Vector x, Vector *derivative) {
    const Vector inner = between(x, all(-EDGE), all(EDGE)), square = inner * inner;
    Vector below = all(GELU[9]), slope = all(SLOPE[9]);
    for (int n = 8; n >= 0; n--) below = below * square + GELU[n], slope = slope * square + SLOPE[n];
    *derivative = slope * inner + 0.5f;
    return x * (below * inner + 0.5f);
}

/* ---------------------------------------------------------------- one convolution */

/* A loop that leaves its sums in registers: compilers must be told to unroll so many turns. */
#define EACH(N, COUNT) _Pragma("GCC unroll 24") for (int N = 0; N < COUNT; N++)

/* Sums of TILE pixels and VECTORS vectors of outputs: in: the first pixel's top left neighbour. */
#define CONVOLVE(TILE, VECTORS)                                                                       \
    INLINE void convolve_##TILE##_##VECTORS(const Element *in, int64_t row, int pixel, int channels,  \
                                            int kernel, const Element *weight, int total, float *out) { \
        Vector sums[TILE][VECTORS];                                                                   \
        EACH(t, TILE)                                                                                 \
            EACH(v, VECTORS) sums[t][v] = all(0);                                                     \
        for (int ky = 0; ky < kernel; ky++)                                                           \
            for (int kx = 0; kx < kernel; kx++) {                                                     \
                const Element *from = in + ky * row + kx * pixel;                                     \
                for (int c = 0; c < channels; c += PAIR, weight += VECTORS * LANES * PAIR)            \
                    EACH(t, TILE)                                                                     \
                        EACH(v, VECTORS)                                                              \
                            sums[t][v] = multiply_add(sums[t][v], from + t * pixel + c,               \
                                                      weight + v * LANES * PAIR);                     \
            }                                                                                         \
        EACH(t, TILE)                                                                                 \
            EACH(v, VECTORS) store(out + t * total + v * LANES, sums[t][v]);                          \
    }

/* Adds to the gradients of TILE inputs' and VECTORS output vectors' weights, over a row of pixels or of
 * pairs of them. */
#define CORRELATE(TILE, VECTORS)                                                                      \
    INLINE void correlate_##TILE##_##VECTORS(const Element *in, int pixel, const Element *sums,       \
                                             int total, int steps, float *gradient) {                 \
        Vector g[TILE][VECTORS];                                                                      \
        EACH(t, TILE)                                                                                 \
            EACH(v, VECTORS) g[t][v] = load(gradient + (t * VECTORS + v) * LANES);                    \
        for (int x = 0; x < steps; x++, in += pixel * PAIR, sums += total * PAIR)                     \
            EACH(t, TILE)                                                                             \
                EACH(v, VECTORS)                                                                      \
                    g[t][v] = multiply_add(g[t][v], in + t * PAIR, sums + v * LANES * PAIR);          \
        EACH(t, TILE)                                                                                 \
            EACH(v, VECTORS) store(gradient + (t * VECTORS + v) * LANES, g[t][v]);                    \
    }

#define BOTH(TILE, VECTORS) CONVOLVE(TILE, VECTORS) CORRELATE(TILE, VECTORS)
BOTH(1, 1) BOTH(2, 1) BOTH(3, 1) BOTH(4, 1) BOTH(5, 1) BOTH(6, 1)
BOTH(7, 1) BOTH(8, 1) BOTH(9, 1) BOTH(10, 1) BOTH(11, 1) BOTH(12, 1)
BOTH(1, 2) BOTH(2, 2) BOTH(3, 2) BOTH(4, 2) BOTH(5, 2) BOTH(6, 2)
BOTH(1, 3) BOTH(2, 3) BOTH(3, 3) BOTH(4, 3)
#ifdef __AVX512F__
BOTH(13, 1) BOTH(14, 1) BOTH(15, 1) BOTH(16, 1) BOTH(17, 1) BOTH(18, 1)
BOTH(19, 1) BOTH(20, 1) BOTH(21, 1) BOTH(22, 1) BOTH(23, 1) BOTH(24, 1)
BOTH(7, 2) BOTH(8, 2) BOTH(9, 2) BOTH(10, 2) BOTH(11, 2) BOTH(12, 2)
BOTH(5, 3) BOTH(6, 3) BOTH(7, 3) BOTH(8, 3)
#endif

#define CASE(NAME, TILE, VECTORS, ...) case VECTORS * 32 + TILE: NAME##_##TILE##_##VECTORS(__VA_ARGS__); break;
#ifdef __AVX512F__
#define MORE_CASES(NAME, ...)                                                                         \
    CASE(NAME, 13, 1, __VA_ARGS__) CASE(NAME, 14, 1, __VA_ARGS__) CASE(NAME, 15, 1, __VA_ARGS__)      \
    CASE(NAME, 16, 1, __VA_ARGS__) CASE(NAME, 17, 1, __VA_ARGS__) CASE(NAME, 18, 1, __VA_ARGS__)      \
    CASE(NAME, 19, 1, __VA_ARGS__) CASE(NAME, 20, 1, __VA_ARGS__) CASE(NAME, 21, 1, __VA_ARGS__)      \
    CASE(NAME, 22, 1, __VA_ARGS__) CASE(NAME, 23, 1, __VA_ARGS__) CASE(NAME, 24, 1, __VA_ARGS__)      \
    CASE(NAME, 7, 2, __VA_ARGS__) CASE(NAME, 8, 2, __VA_ARGS__) CASE(NAME, 9, 2, __VA_ARGS__)         \
    CASE(NAME, 10, 2, __VA_ARGS__) CASE(NAME, 11, 2, __VA_ARGS__) CASE(NAME, 12, 2, __VA_ARGS__)      \
    CASE(NAME, 5, 3, __VA_ARGS__) CASE(NAME, 6, 3, __VA_ARGS__) CASE(NAME, 7, 3, __VA_ARGS__)         \
    CASE(NAME, 8, 3, __VA_ARGS__)
#else
#define MORE_CASES(NAME, ...)
#endif
#define CASES(NAME, ...)                                                                              \
    MORE_CASES(NAME, __VA_ARGS__)                                                                     \
    CASE(NAME, 1, 1, __VA_ARGS__) CASE(NAME, 2, 1, __VA_ARGS__) CASE(NAME, 3, 1, __VA_ARGS__)         \
    CASE(NAME, 4, 1, __VA_ARGS__) CASE(NAME, 5, 1, __VA_ARGS__) CASE(NAME, 6, 1, __VA_ARGS__)         \
    CASE(NAME, 7, 1, __VA_ARGS__) CASE(NAME, 8, 1, __VA_ARGS__) CASE(NAME, 9, 1, __VA_ARGS__)         \
    CASE(NAME, 10, 1, __VA_ARGS__) CASE(NAME, 11, 1, __VA_ARGS__) CASE(NAME, 12, 1, __VA_ARGS__)      \
    CASE(NAME, 1, 2, __VA_ARGS__) CASE(NAME, 2, 2, __VA_ARGS__) CASE(NAME, 3, 2, __VA_ARGS__)         \
    CASE(NAME, 4, 2, __VA_ARGS__) CASE(NAME, 5, 2, __VA_ARGS__) CASE(NAME, 6, 2, __VA_ARGS__)         \
    CASE(NAME, 1, 3, __VA_ARGS__) CASE(NAME, 2, 3, __VA_ARGS__) CASE(NAME, 3, 3, __VA_ARGS__)         \
    CASE(NAME, 4, 3, __VA_ARGS__)

/* How many of `left` vectors to take at once, and how many sums of so many vectors stay in registers. */
INLINE int vectors_of(int left) { return left == 1 ? 1 : left == 2 || left == 4 ? 2 : 3; }
INLINE int tile_of(int vectors) { return MAX_TILE / vectors; }
/* The next of as few tiles as `left` takes, of about equal size. */
INLINE int next_tile(int left, int most) {
    const int tiles = (left + most - 1) / most;
    return (left + tiles - 1) / tiles;
}

/* One row of sums: out[width][total]. */
static void convolve_row(const Element *in, int64_t row, int pixel, int channels, int kernel, int width,
                         const Element *weight, int total, float *out) {
    channels = even(channels);
    for (int first = 0, vectors; first < total / LANES; first += vectors) {
        vectors = vectors_of(total / LANES - first);
        for (int x = 0, tile; x < width; x += tile) {
            tile = next_tile(width - x, tile_of(vectors));
            const Element *from = in + x * pixel;
            const Element *w = weight + (int64_t)first * LANES * kernel * kernel * channels;
            float *to = out + (int64_t)x * total + first * LANES;
            switch (vectors * 32 + tile) { CASES(convolve, from, row, pixel, channels, kernel, w, total, to) }
        }
    }
}

/* Adds one row's share to the gradients of the weights, [kernel][channels][total] for each row of the
 * kernel. in: of each column of the kernel, where its row of `steps` pixels or pairs of them begins. */
static void correlate_row(const Element *const *in, int pixel, int channels, int kernel, int ky, int steps,
                          const Element *sums, int total, float *gradient) {
    for (int first = 0, vectors; first < total / LANES; first += vectors) {
        vectors = vectors_of(total / LANES - first);
        for (int kx = 0; kx < kernel; kx++)
            for (int c = 0, tile; c < channels; c += tile) {
                tile = next_tile(channels - c, tile_of(vectors));
                const Element *from = in[kx] + c * PAIR, *s = sums + first * LANES * PAIR;
                const int64_t at = (int64_t)first * kernel * kernel * channels
                                   + ((ky * kernel + kx) * channels + c) * vectors;
                float *to = gradient + at * LANES;
                switch (vectors * 32 + tile) { CASES(correlate, from, pixel, s, total, steps, to) }
            }
    }
}

/* ---------------------------------------------------------------- weights */

/* Outputs whose weights stand together: [kernel][kernel][input][step]. */
typedef struct {
    int64_t begin; /* the first weight */
    int step, lane; /* outputs in the group; the number among them of the one asked for */
} Group;

/* The group of output o of a convolution with so many weights for each of `total` outputs. */
INLINE Group group_of(int64_t weights, int total, int o) {
    int first = 0, vectors;
    while (o / LANES >= first + (vectors = vectors_of(total / LANES - first))) first += vectors;
    return (Group){first * LANES * weights, vectors * LANES, o - first * LANES};
}

/* Where its weight of an input is; `pair`: how many inputs stand together. */
INLINE int64_t weight_at(Group group, int64_t input, int pair) {
    return group.begin + (input / pair * group.step + group.lane) * pair + input % pair;
}

/* Where output o, of torch's order, is among the sums. */
INLINE int output_at(const Layer *l, int o) {
    const int s = l->shuffle * l->shuffle;
    return o % s * padded(l->out) + o / s;
}

INLINE int64_t bias_at(const Layer *l, int o) {
    return (int64_t)l->kernel * l->kernel * l->in * outputs(l) + output_at(l, o);
}

INLINE int64_t packed_floats(const Layer *l) {
    return (int64_t)(l->kernel * l->kernel * l->in + 1) * outputs(l);
}

static void pack(const Layer *l) {
    const int kk = l->kernel * l->kernel, n = l->out * l->shuffle * l->shuffle, in = padded(l->in);
    Element *packed = (Element *)l->packed, *flipped = (Element *)l->flipped;
    memset(packed, 0, sizeof(float) * packed_floats(l));
    memset(flipped, 0, sizeof(Element) * kk * outputs(l) * in);
    for (int o = 0; o < n; o++) {
        const float *weight = l->weight + (int64_t)o * l->in * kk;
        const int output = output_at(l, o);
        const Group group = group_of((int64_t)kk * even(l->in), outputs(l), output);
        l->packed[bias_at(l, o)] = l->bias[o / (l->shuffle * l->shuffle)];
        for (int i = 0; i < l->in; i++) {
            const Group back = group_of((int64_t)kk * outputs(l), in, i);
            for (int k = 0; k < kk; k++) {
                const Element w = element(weight[i * kk + k]);
                packed[weight_at(group, k * even(l->in) + i, PAIR)] = w;
                flipped[weight_at(back, (kk - 1 - k) * outputs(l) + output, PAIR)] = w;
            }
        }
    }
}

static void unpack_gradients(const Layer *l, int workers) {
    const int kk = l->kernel * l->kernel, s = l->shuffle * l->shuffle;
    for (int o = 0; o < l->out * s; o++) {
        float sum = o % s ? l->bias_gradient[o / s] : 0;
        for (int w = 0; w < workers; w++) sum += l->partial[w * packed_floats(l) + bias_at(l, o)];
        l->bias_gradient[o / s] = sum;
        const Group group = group_of((int64_t)kk * l->in, outputs(l), output_at(l, o));
        for (int i = 0; i < l->in; i++)
            for (int k = 0; k < kk; k++) {
                sum = 0;
                for (int w = 0; w < workers; w++)
                    sum += l->partial[w * packed_floats(l) + weight_at(group, k * l->in + i, 1)];
                l->weight_gradient[((int64_t)o * l->in + i) * kk + k] = sum;
            }
    }
}

/* ---------------------------------------------------------------- forwards */

/* Where the outputs of a row go, and what becomes of its sums; `count` sums of each of `width` pixels,
 * which are `total` apart, come to stand side by side. */
typedef struct {
    int width, count, total;
    float unit, scale, low, high;
    const float *line, *bias;
    float *stream;
    Element *factor, *next;
} Row;

INLINE void activate_row(Row row, int is_residual, int rounds) {
    const Vector unit = all(row.unit), scale = all(row.scale), least = all(1e-30f);
    const Vector slope = unit * scale, low = all(row.low), high = all(row.high);
    for (int x = 0; x < row.width; x++) {
        const float *line = row.line + (int64_t)x * row.total;
        const int64_t begin = (int64_t)x * row.count;
        for (int o = 0; o < row.count; o += LANES) {
            Vector d, value = gelu((load(line + o) + load(row.bias + o)) * unit, &d) * scale;
            d *= slope;
            if (is_residual) value += load(row.stream + begin + o);
            if (rounds) {
                const Vector clipped = between(value, low, high);
                d = choose(d == 0.0f, least, d);
                d = choose(value == clipped, d, all(0));
                value = clipped;
            }
            put(row.factor + begin + o, d);
            store(row.stream + begin + o, value);
            if (rounds) value = (value + 12582912.0f) - 12582912.0f;
            put(row.next + begin + o, value);
        }
    }
}

/* What follows the sums of one row: line[width][outputs]. */
static void activate(const Network *net, const Layer *l, float *memory, int y, const float *line) {
    const Layer *next = l + 1; /* it reads the output */
    const int s = l->shuffle, out = padded(l->out), b = border(next);
    for (int dy = 0; dy < s; dy++) {
        const int64_t row = (int64_t)y * s + dy, begin = row * l->width * s * out;
        const Row r = {
            .width = l->width, .count = s * out, .total = outputs(l),
            .unit = l->unit, .scale = l->scale, .low = l->low, .high = l->high,
            .line = line + dy * s * out, .bias = l->packed + bias_at(l, 0) + dy * s * out,
            .stream = net->stream + begin, .factor = (Element *)(memory + l->factor) + begin,
            .next = (Element *)(memory + next->input) + (row + b) * input_row(next) + b * out,
        };
        if (l->is_residual && l->rounds) activate_row(r, 1, 1);
        else if (l->is_residual) activate_row(r, 1, 0);
        else if (l->rounds) activate_row(r, 0, 1);
        else activate_row(r, 0, 0);
    }
}

static void finish(const Network *net, const Layer *l, int frame, int y, const float *line) {
    float *to = net->samples + ((int64_t)frame * l->height + y) * l->width * l->out;
    for (int x = 0; x < l->width; x++)
        for (int c = 0; c < l->out; c++)
            to[x * l->out + c] = (line[x * outputs(l) + c] + l->bias[c]) * l->unit;
}

static void take_embedding(const Network *net, int frame, float *memory) {
    const Layer *l = net->layers;
    const int64_t plane = (int64_t)l->height * l->width;
    const float *from = net->embedding + frame * l->in * plane;
    Element *to = (Element *)(memory + l->input);
    for (int y = 0; y < l->height; y++)
        for (int x = 0; x < l->width; x++)
            for (int c = 0; c < l->in; c++)
                to[(y + border(l)) * input_row(l) + (x + border(l)) * padded(l->in) + c] =
                    element(from[c * plane + (int64_t)y * l->width + x]);
}

INLINE int share(int rows, int worker, int workers) { return (int)((int64_t)rows * worker / workers); }

/* Channels that a pixel's memory is rounded up to a multiple of. */
int32_t hnv_lanes(void) { return LANES; }

/* Samples of all frames, from their embeddings. */
void hnv_forward(const Network *net, int worker, int workers) {
    int turn = 0;
    for (int n = worker; n < net->count; n += workers) pack(&net->layers[n]);
    for (int f = 0; f < net->frames; f++) {
        float *memory = net->memory + f * net->frame_floats;
        if (worker == 0) take_embedding(net, f, memory);
        meet(net, workers, &turn);
        for (int n = 0; n < net->count; n++) {
            const Layer *l = &net->layers[n];
            const int end = share(l->height, worker + 1, workers);
            float *line = net->lines + worker * net->line_floats;
            for (int y = share(l->height, worker, workers); y < end; y++) {
                convolve_row((Element *)(memory + l->input) + y * input_row(l), input_row(l), padded(l->in),
                             l->in, l->kernel, l->width, (Element *)l->packed, outputs(l), line);
                if (l->is_head) finish(net, l, f, y, line);
                else activate(net, l, memory, y, line);
            }
            meet(net, workers, &turn);
        }
    }
}

/* ---------------------------------------------------------------- backwards */

/* The gradients of one row's sums, from those of the output; they are added up for the biases. */
static void gather(const Network *net, const Layer *l, int frame, const float *memory, int y, float *bias) {
    const int s = l->shuffle, out = padded(l->out);
    Element *to = (Element *)net->sums + (y + border(l)) * sums_row(l) + border(l) * outputs(l);
    if (l->is_head) {
        const float *from = net->samples_gradient + ((int64_t)frame * l->height + y) * l->width * l->out;
        for (int x = 0; x < l->width; x++, to += out) {
            for (int c = 0; c < out; c++) {
                const float sum = c < l->out ? from[x * l->out + c] * l->unit : 0;
                to[c] = element(sum);
                bias[c] += sum;
            }
        }
        return;
    }
    for (int dy = 0; dy < s; dy++) {
        const int64_t begin = ((int64_t)y * s + dy) * l->width * s * out;
        float *slope = net->slope + begin;
        const Element *factor = (const Element *)(memory + l->factor) + begin;
        for (int x = 0; x < l->width; x++)
            for (int o = dy * s * out; o < (dy + 1) * s * out; o += LANES) {
                const Vector d = get(factor), g = load(slope), sum = g * d;
                put(to + (int64_t)x * outputs(l) + o, sum);
                store(bias + o, load(bias + o) + sum);
                if (l->is_residual && l->rounds) store(slope, choose(d == 0.0f, all(0), g));
                factor += LANES, slope += LANES;
            }
    }
}

/* Zeros around the gradients of the sums, which another layer's gradients may have left. */
static void clear_border(const Network *net, const Layer *l) {
    const int b = border(l);
    const int64_t row = sums_row(l);
    Element *sums = (Element *)net->sums;
    memset(sums, 0, sizeof(Element) * row * b);
    memset(sums + (l->height + b) * row, 0, sizeof(Element) * row * b);
    for (int y = b; y < l->height + b; y++) {
        memset(sums + y * row, 0, sizeof(Element) * b * outputs(l));
        memset(sums + (y + 1) * row - b * outputs(l), 0, sizeof(Element) * b * outputs(l));
    }
}

#if PAIRS_OF_PIXELS
/* Of a row of pixels, its pairs: [pixel / 2][channel][2]; an odd one at the end has none. */
static void pair_row(const Element *in, int width, int pixel, Element *out) {
    for (int x = 0; x < width; x += 2, in += 2 * pixel)
        for (int c = 0; c < pixel; c += LANES, out += 2 * LANES)
            interleave(out, in + c, x + 1 < width ? in + pixel + c : zeros);
}
#endif

/* Adds rows `first` to `end` of the sums' gradients, with their inputs, to the gradients of the weights.
 * lines: memory for rows in pairs. */
static void correlate(const Network *net, const Layer *l, const float *memory, int first, int end,
                      float *lines, float *gradient) {
    const int pixel = padded(l->in), total = outputs(l), b = border(l);
    const Element *inputs = (const Element *)(memory + l->input);
    const Element *sums = (const Element *)net->sums + b * sums_row(l) + b * total;
    const Element *columns[MAX_KERNEL];
    for (int y = first; y < end; y++) {
        const Element *row = sums + y * sums_row(l);
#if PAIRS_OF_PIXELS
        /* Rows of the input stay in pairs for as long as the kernel reaches them: twice, for its even and
         * odd columns. */
        const int64_t paired = (int64_t)(l->width + 2 * b + 2) * pixel;
        Element *of_inputs = (Element *)lines, *of_sums = of_inputs + 2 * l->kernel * paired;
        for (int ky = y == first ? 0 : l->kernel - 1; ky < l->kernel; ky++)
            for (int odd = 0; odd < 2; odd++)
                pair_row(inputs + (y + ky) * input_row(l) + odd * pixel, l->width + 2 * b - odd, pixel,
                         of_inputs + (2 * ((y + ky) % l->kernel) + odd) * paired);
        pair_row(row, l->width, total, of_sums);
        row = of_sums;
#else
        (void)lines;
#endif
        for (int ky = 0; ky < l->kernel; ky++) {
            for (int kx = 0; kx < l->kernel; kx++)
#if PAIRS_OF_PIXELS
                columns[kx] = of_inputs + (2 * ((y + ky) % l->kernel) + kx % 2) * paired + kx / 2 * 2 * pixel;
#else
                columns[kx] = inputs + (y + ky) * input_row(l) + kx * pixel;
#endif
            correlate_row(columns, pixel, l->in, l->kernel, ky, (l->width + PAIR - 1) / PAIR, row, total,
                          gradient);
        }
    }
}

/* Gradients of the weights, biases and embeddings, from those of the samples. */
void hnv_backward(const Network *net, int worker, int workers) {
    int turn = 0;
    for (int n = 0; n < net->count; n++) {
        const int64_t floats = packed_floats(&net->layers[n]);
        memset(net->layers[n].partial + worker * floats, 0, sizeof(float) * floats);
    }
    for (int f = 0; f < net->frames; f++) {
        const float *memory = net->memory + f * net->frame_floats;
        for (int n = net->count - 1; n >= 0; n--) {
            const Layer *l = &net->layers[n];
            const int first = share(l->height, worker, workers), end = share(l->height, worker + 1, workers);
            const int in = padded(l->in), total = outputs(l);
            float *gradient = l->partial + worker * packed_floats(l);
            if (worker == 0) clear_border(net, l);
            for (int y = first; y < end; y++)
                gather(net, l, f, memory, y, gradient + (int64_t)l->kernel * l->kernel * l->in * total);
            meet(net, workers, &turn);
            float *line = net->lines + worker * net->line_floats;
            correlate(net, l, memory, first, end, line, gradient);
            for (int y = first; y < end; y++) {
                convolve_row((Element *)net->sums + y * sums_row(l), sums_row(l), total, total, l->kernel,
                             l->width, (Element *)l->flipped, in, line);
                float *slope = net->slope + (int64_t)y * l->width * in;
                for (int64_t i = 0; i < (int64_t)l->width * in; i += LANES)
                    store(slope + i, load(line + i) + (l->is_residual ? load(slope + i) : all(0)));
            }
            meet(net, workers, &turn);
        }
        if (worker == 0) {
            const Layer *l = net->layers;
            const int64_t plane = (int64_t)l->height * l->width;
            for (int c = 0; c < l->in; c++)
                for (int64_t i = 0; i < plane; i++)
                    net->embedding_gradient[(f * l->in + c) * plane + i] = net->slope[i * padded(l->in) + c];
        }
        meet(net, workers, &turn);
    }
    for (int n = worker; n < net->count; n += workers) unpack_gradients(&net->layers[n], workers);
}
