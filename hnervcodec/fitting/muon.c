/* One update by Muon of one matrix in float32, as `muon.py` defines it: for small matrices, on which
 * torch spends more time than on their numbers. `muon.py` calls this; the tests compare the two. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
enum { LANES = 8, ROWS = 4, COLUMNS = 2 * LANES, ITERATIONS = 5 };
typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
static const float A = 3.4445f, B = -4.7750f, C = 2.0315f, SMALLEST_NORM = 1e-7f;

INLINE Vector load(const float *p) { return *(const Vector *)p; }
INLINE void store(float *p, Vector x) { *(Vector *)p = x; }
INLINE Vector all(float x) { return (Vector){x, x, x, x, x, x, x, x}; }
INLINE int up_to(int size, int multiple) { return (size + multiple - 1) / multiple * multiple; }

/* Matrices here are padded with zeros: rows to a multiple of ROWS, columns of COLUMNS. */

/* gram [n][stride] = x xT, of x [n][columns]. */
static void outer(const float *restrict x, int n, int columns, float *restrict gram, int stride) {
    for (int i = 0; i < n; i += ROWS)
        for (int j = 0; j <= i; j += ROWS) {
            Vector sums[ROWS][ROWS] = {0};
            for (int k = 0; k < columns; k += LANES) {
                Vector other[ROWS];
                for (int s = 0; s < ROWS; s++) other[s] = load(x + (int64_t)(j + s) * columns + k);
                for (int r = 0; r < ROWS; r++) {
                    Vector one = load(x + (int64_t)(i + r) * columns + k);
                    for (int s = 0; s < ROWS; s++) sums[r][s] += one * other[s];
                }
            }
            for (int r = 0; r < ROWS; r++)
                for (int s = 0; s < ROWS; s++) {
                    float sum = 0;
                    for (int lane = 0; lane < LANES; lane++) sum += sums[r][s][lane];
                    gram[(int64_t)(i + r) * stride + j + s] = sum;
                    gram[(int64_t)(j + s) * stride + i + r] = sum;
                }
        }
}

/* out = a x + b (p x), of p [n][stride] and x [n][columns]. */
static void multiply(float a, const float *restrict x, float b, const float *restrict p, int n, int stride,
                     int columns, float *restrict out) {
    for (int i = 0; i < n; i += ROWS)
        for (int j = 0; j < columns; j += COLUMNS) {
            Vector sums[ROWS][2] = {0};
            for (int k = 0; k < n; k++) {
                const float *row = x + (int64_t)k * columns + j;
                Vector left = load(row), right = load(row + LANES);
                for (int r = 0; r < ROWS; r++) {
                    Vector factor = all(p[(int64_t)(i + r) * stride + k]);
                    sums[r][0] += factor * left;
                    sums[r][1] += factor * right;
                }
            }
            for (int r = 0; r < ROWS; r++)
                for (int half = 0; half < 2; half++) {
                    int64_t at = (int64_t)(i + r) * columns + j + half * LANES;
                    store(out + at, all(a) * load(x + at) + all(b) * sums[r][half]);
                }
        }
}

/* Floats of memory that an update of [rows][columns] needs. */
int64_t hnv_muon_memory(int32_t rows, int32_t columns) {
    int few = rows < columns ? rows : columns, many = rows < columns ? columns : rows;
    int64_t n = up_to(few, ROWS), stride = up_to(few, COLUMNS);
    return 2 * n * up_to(many, COLUMNS) + 2 * n * stride;
}

/* weight, gradient, mean (of the gradients): [rows][columns]. momentum: 0..1. shrink: what the weights
 * are multiplied by first. rate: of the orthogonal update. */
void hnv_muon(float *restrict weight, const float *restrict gradient, float *restrict mean, int32_t rows,
              int32_t columns, float momentum, float shrink, float rate, float *restrict memory) {
    const int is_tall = rows > columns;
    const int n = up_to(is_tall ? columns : rows, ROWS), width = up_to(is_tall ? rows : columns, COLUMNS);
    const int stride = up_to(is_tall ? columns : rows, COLUMNS);
    float *x = memory, *next = x + (int64_t)n * width;
    float *gram = next + (int64_t)n * width, *factor = gram + (int64_t)n * stride;
    memset(memory, 0, sizeof(float) * hnv_muon_memory(rows, columns));
    double squares = 0;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            int64_t at = (int64_t)r * columns + c;
            mean[at] += (1 - momentum) * (gradient[at] - mean[at]);
            float update = gradient[at] + momentum * (mean[at] - gradient[at]);
            x[is_tall ? (int64_t)c * width + r : (int64_t)r * width + c] = update;
            squares += (double)update * update;
        }
    const float norm = sqrtf((float)squares), scale = 1 / (norm > SMALLEST_NORM ? norm : SMALLEST_NORM);
    for (int64_t i = 0; i < (int64_t)n * width; i++) x[i] *= scale;
    for (int iteration = 0; iteration < ITERATIONS; iteration++) {
        outer(x, n, width, gram, stride);
        multiply(B, gram, C, gram, n, stride, stride, factor);
        multiply(A, x, 1, factor, n, stride, width, next);
        float *swapped = x;
        x = next, next = swapped;
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            int64_t at = (int64_t)r * columns + c;
            float update = x[is_tall ? (int64_t)c * width + r : (int64_t)r * width + c];
            weight[at] = weight[at] * shrink - rate * update;
        }
}
