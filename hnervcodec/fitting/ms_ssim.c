/* Multi-scale structural similarity of two images and its gradient, as `metrics/ms_ssim.py` defines
 * it, in a few passes over memory. `ms_ssim_kernel.py` calls this; the tests compare the two. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { WINDOW = 11, MAX_SCALES = 5 };
static const float C1 = 0.01f * 0.01f, C2 = 0.03f * 0.03f, LEAST = 1e-4f;

/* out[x] = sum of window[i] * in[i * step + x], for x < count. */
static void blur(const float *restrict in, int64_t step, const float *restrict window, int count,
                 float *restrict out) {
    float w[WINDOW];
    memcpy(w, window, sizeof w);
    for (int x = 0; x < count; x++) {
        float sum = 0;
        for (int i = 0; i < WINDOW; i++) sum += w[i] * in[i * step + x];
        out[x] = sum;
    }
}

/* Half as large, by means of four. */
static void halve(const float *restrict in, int height, int width, float *restrict out) {
    for (int y = 0; y < height / 2; y++) {
        const float *upper = in + (int64_t)2 * y * width, *lower = upper + width;
        float *row = out + (int64_t)y * (width / 2);
        for (int x = 0; x < width / 2; x++)
            row[x] = 0.25f * (upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1]);
    }
}

/* The mean similarity of one scale, over every place of the window: of contrast and structure, and at
 * the last scale of luminance too. gradient [height][width]: what it is multiplied by for the slope of
 * the mean by `a`; the caller does so. memory: 5 images, and rows. */
static double similarity(const float *restrict a, const float *restrict b, int height, int width,
                         int is_last, const float *restrict window, float *restrict memory,
                         float *restrict gradient) {
    const int64_t size = (int64_t)height * width;
    const int rows = height - WINDOW + 1, columns = width - WINDOW + 1, margin = WINDOW - 1;
    float *squares = memory, *products = squares + size;
    float *slopes[3];  /* by the means of a, of the squares and of the products; blurred along rows */
    for (int n = 0; n < 3; n++) slopes[n] = memory + (2 + n) * size;
    float *line[4], *mean[4], *slope[3];
    float *rest = memory + 5 * size;
    for (int n = 0; n < 4; n++, rest += 2 * width) line[n] = rest, mean[n] = rest + width;
    for (int n = 0; n < 3; n++, rest += width + margin) {
        slope[n] = rest;  /* between zeros */
        memset(slope[n], 0, sizeof(float) * (width + margin));
    }
    for (int64_t i = 0; i < size; i++) {
        squares[i] = a[i] * a[i] + b[i] * b[i];
        products[i] = a[i] * b[i];
    }
    const float *images[4] = {a, b, squares, products};
    double total = 0;
    for (int y = 0; y < rows; y++) {
        for (int n = 0; n < 4; n++) {
            blur(images[n] + (int64_t)y * width, width, window, width, line[n]);
            blur(line[n], 1, window, columns, mean[n]);
        }
        float *restrict by_mean = slope[0] + margin, *restrict by_square = slope[1] + margin,
              *restrict by_product = slope[2] + margin, *restrict values = line[0];
        for (int x = 0; x < columns; x++) {
            const float ma = mean[0][x], mb = mean[1][x], both = ma * mb, own = ma * ma + mb * mb;
            const float scale = 1 / (mean[2][x] - own + C2);
            const float contrast = (2 * (mean[3][x] - both) + C2) * scale;
            float by_ma = 2 * scale * (contrast * ma - mb), part = scale, value = contrast;
            if (is_last) {
                const float least = 1 / (own + C1), luminance = (2 * both + C1) * least;
                by_ma = luminance * by_ma + contrast * 2 * least * (mb - luminance * ma);
                part *= luminance;
                value *= luminance;
            }
            by_mean[x] = by_ma;
            by_square[x] = -contrast * part;
            by_product[x] = 2 * part;
            values[x] = value;
        }
        for (int x = 0; x < columns; x++) total += values[x];
        for (int n = 0; n < 3; n++) blur(slope[n], 1, window, width, slopes[n] + (int64_t)y * width);
    }
    /* The window is symmetric, so that blurring is its own transpose, but for the ends. */
    for (int y = 0; y < height; y++) {
        const int first = y < margin ? margin - y : 0, end = y < rows ? WINDOW : rows + margin - y;
        for (int n = 0; n < 3; n++) {
            memset(line[n], 0, sizeof(float) * width);
            for (int i = first; i < end; i++) {
                const float weight = window[i];
                const float *restrict from = slopes[n] + (int64_t)(y - margin + i) * width;
                float *restrict to = line[n];
                for (int x = 0; x < width; x++) to[x] += weight * from[x];
            }
        }
        const float *restrict pa = a + (int64_t)y * width, *restrict pb = b + (int64_t)y * width;
        float *restrict out = gradient + (int64_t)y * width;
        for (int x = 0; x < width; x++) out[x] = line[0][x] + 2 * pa[x] * line[1][x] + pb[x] * line[2][x];
    }
    return total / ((double)rows * columns);
}

/* Similarity of a and b [height][width], at so many scales of these weights.
 * window [WINDOW]; memory: 6 images and 12 rows of floats, and 40 more; gradient [height][width]: by a. */
float hnv_ms_ssim(const float *a, const float *b, int32_t height, int32_t width, int32_t scales,
                  const float *weights, const float *window, float *memory, float *gradient) {
    const float *as[MAX_SCALES] = {a}, *bs[MAX_SCALES] = {b};
    float *gradients[MAX_SCALES] = {gradient};
    int heights[MAX_SCALES] = {height}, widths[MAX_SCALES] = {width};
    for (int s = 1; s < scales; s++) {
        const int h = heights[s] = heights[s - 1] / 2, w = widths[s] = widths[s - 1] / 2;
        float *half_a = memory, *half_b = half_a + (int64_t)h * w;
        gradients[s] = half_b + (int64_t)h * w;
        memory = gradients[s] + (int64_t)h * w;
        halve(as[s - 1], heights[s - 1], widths[s - 1], half_a);
        halve(bs[s - 1], heights[s - 1], widths[s - 1], half_b);
        as[s] = half_a, bs[s] = half_b;
    }
    double result = 1, means[MAX_SCALES];
    for (int s = 0; s < scales; s++) {
        means[s] = similarity(as[s], bs[s], heights[s], widths[s], s == scales - 1, window, memory,
                              gradients[s]);
        result *= pow(fmax(means[s], LEAST), weights[s]);
    }
    for (int s = scales - 1; s >= 0; s--) {
        const double places = (double)(heights[s] - WINDOW + 1) * (widths[s] - WINDOW + 1);
        const float factor = means[s] < LEAST ? 0 : (float)(result * weights[s] / means[s] / places);
        const int h = heights[s], w = widths[s];
        float *restrict own = gradients[s];
        for (int64_t i = 0; i < (int64_t)h * w; i++) own[i] *= factor;
        if (s == scales - 1) continue;
        const int half = widths[s + 1];
        for (int y = 0; y < heights[s + 1]; y++) {
            const float *restrict coarse = gradients[s + 1] + (int64_t)y * half;
            for (int dy = 0; dy < 2; dy++) {
                float *restrict row = own + (int64_t)(2 * y + dy) * w;
                for (int x = 0; x < half; x++) {
                    row[2 * x] += 0.25f * coarse[x];
                    row[2 * x + 1] += 0.25f * coarse[x];
                }
            }
        }
    }
    return (float)result;
}
