// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include "frames/kernels.h"

#include "frames/butterflies.h"
#include "runtime/lanes.h"
#include "runtime/panel.h"

namespace infall::INFALL_ISA {
namespace {

INFALL_HD bool sign_bit(const uint32_t* signs, int64_t i) { return signs[i >> 5] >> (i & 31) & 1u; }

// Levels whose strides are below the length of the first pass: 8 vectors.
constexpr int first_levels_across = 3;
constexpr int leaf_log2 = 12;  // a leaf stays in the first cache

template <class T>
void transform_short(const T* x, const uint32_t* signs, int64_t length, T* out) {
    for (int64_t i = 0; i < length; ++i) out[i] = signs && sign_bit(signs, i) ? -x[i] : x[i];
    for (int64_t stride = 1; stride < length; stride *= 2)
        for (int64_t i = 0; i < length; ++i)
            if ((i & stride) == 0) {
                const T low = out[i], high = out[i + stride];
                out[i] = low + high;
                out[i + stride] = low - high;
            }
}

template <bool with_signs, class T>
INFALL_HD void first_pass(const T* x, const uint32_t* signs, int64_t length, T* out) {
    constexpr int lanes = lanes_of<T>, vectors = 1 << first_levels_across;
    for (int64_t i = 0; i < length; i += vectors * lanes) {
        Vector<T> a[vectors];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
            const int64_t at = i + v * lanes;
            a[v] = load_vector(x + at);
            if constexpr (with_signs)
                a[v] = negate_where<T>(a[v], lanes_set<T>(signs[at >> 5] >> (at & 31)));
            a[v] = levels_inside<T>(a[v]);
        }
        levels_across<first_levels_across>(a);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) store(out + i + v * lanes, a[v]);
    }
}

// The levels from `stride` on, up to `length`.
template <class T>
void remaining_passes(T* x, int64_t stride, int64_t length) {
    while (stride < length) {
        int levels = radix_levels;
        while (stride << levels > length) --levels;
        // Two passes of three levels rather than one of four and one of two.
        if (levels == 4 && (stride << 6) == length) levels = 3;
        for (int64_t base = 0; base < length; base += stride << levels)
            any_pass(levels, x + base, stride, x + base, stride, stride);
        stride <<= levels;
    }
}

template <class T>
void transform_block(const T* x, const uint32_t* signs, int log2_length, T* out) {
    constexpr int64_t first = int64_t{lanes_of<T>} << first_levels_across;
    const int64_t length = int64_t{1} << log2_length;
    if (length < first) return transform_short(x, signs, length, out);
    const int64_t leaf = log2_length < leaf_log2 ? length : int64_t{1} << leaf_log2;
    for (int64_t i = 0; i < length; i += leaf) {
        if (signs)
            first_pass<true>(x + i, signs + i / 32, leaf, out + i);
        else
            first_pass<false>(x + i, nullptr, leaf, out + i);
        remaining_passes(out + i, first, leaf);
    }
    remaining_passes(out, leaf, length);
}

// In two passes through a buffer, since rows a power of two apart share a few places in the caches:
// each line is read once and written once.
template <class T>
void combine(T* x, int64_t stride, int levels, int64_t columns) {
    constexpr int64_t width = 256 / sizeof(T);
    if (levels <= radix_levels) return any_pass(levels, x, stride, x, stride, columns);
    alignas(64) T buffer[(int64_t{1} << combined_levels) * width];
    const int low = levels / 2, high = levels - low;
    for (int64_t column = 0; column < columns; column += width) {
        const int64_t here = columns - column < width ? columns - column : width;
        for (int64_t row = 0; row < int64_t{1} << levels; row += int64_t{1} << low)
            any_pass(low, x + row * stride + column, stride, buffer + row * width, width, here);
        for (int64_t row = 0; row < int64_t{1} << low; ++row)
            any_pass(high, buffer + row * width, width << low, x + row * stride + column,
                     stride << low, here);
    }
}

// ---------------------------------------------------------------------------------------------
// Elementwise, in binary64.

template <class T>
void scale(const T* x, const uint32_t* signs, int64_t first, int64_t count, double factor, T* out) {
    const auto one = [&](int64_t i) {
        const double a = static_cast<double>(x[i]) * factor;
        out[i] = static_cast<T>(signs && sign_bit(signs, first + i) ? -a : a);
    };
    int64_t i = 0;
    for (; i < count && (first + i) % 32 != 0; ++i) one(i);
    for (; i + lanes_of<T> <= count; i += lanes_of<T>) {
        T signed_x[lanes_of<T>];
        Vector<T> a = load_vector(x + i);
        if (signs) {
            const int64_t at = first + i;
            a = negate_where<T>(a, lanes_set<T>(signs[at >> 5] >> (at & 31)));
        }
        store(signed_x, a);
#pragma GCC unroll 4
        for (int k = 0; k < lanes_of<T>; k += double_lanes)
            store_rounded(out + i + k, load_doubles(signed_x + k) * factor);
    }
    for (; i < count; ++i) one(i);
}

template <class T>
double sum(const T* x, const double* norms, int64_t count) {
    constexpr int vectors = frame_sum_lanes / double_lanes;
    Double sums[vectors] = {};
    int64_t i = 0;
    if (norms) {
        for (; i + frame_sum_lanes <= count; i += frame_sum_lanes)
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v)
                sums[v] +=
                    load(norms + i + v * double_lanes) * load_doubles(x + i + v * double_lanes);
    } else {
        for (; i + frame_sum_lanes <= count; i += frame_sum_lanes)
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) sums[v] += load_doubles(x + i + v * double_lanes);
    }
    double lane[frame_sum_lanes];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) store(lane + v * double_lanes, sums[v]);
    for (int k = 0; i + k < count; ++k)
        lane[k] +=
            norms ? norms[i + k] * static_cast<double>(x[i + k]) : static_cast<double>(x[i + k]);
    return total_by_halves<frame_sum_lanes>(lane);
}

template <class T>
void centre(const T* x, const double* norms, int64_t count, double offset, double factor, T* out) {
    int64_t i = 0;
    for (; i + double_lanes <= count; i += double_lanes) {
        Double a = load_doubles(x + i);
        if (norms) a = load(norms + i) * a;
        store_rounded(out + i, factor * (a - offset));
    }
    for (; i < count; ++i) {
        const double a = static_cast<double>(x[i]);
        out[i] = static_cast<T>(factor * ((norms ? norms[i] * a : a) - offset));
    }
}

struct Law {
    const double* norms;
    double offset, factor;

    template <class T>
    INFALL_HD Double vector(const T* x, int64_t i) const {
        const Double weight = norms ? factor * load(norms + i) : broadcast(factor);
        return weight * (load_doubles(x + i) - offset);
    }
    template <class T>
    INFALL_HD T one(const T* x, int64_t i) const {
        const double weight = norms ? factor * norms[i] : factor;
        return static_cast<T>(weight * (static_cast<double>(x[i]) - offset));
    }
};

template <class T>
void logits(const T* x, const double* norms, int64_t count, double offset, double factor, T* out) {
    const Law law{norms, offset, factor};
    int64_t i = 0;
    for (; i + double_lanes <= count; i += double_lanes) store_rounded(out + i, law.vector(x, i));
    for (; i < count; ++i) out[i] = law.one(x, i);
}

template <class T>
bool all_finite(const T* x, int64_t count) {
    // x * 0 is zero, but NaN for NaN and infinity, and so is then every sum with it.
    Vector<T> sums[4] = {};
    int64_t i = 0;
    for (; i + 4 * lanes_of<T> <= count; i += 4 * lanes_of<T>)
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) sums[v] += load_vector(x + i + v * lanes_of<T>) * T{0};
    T lanes[lanes_of<T>];
    store(lanes, sums[0] + sums[1] + sums[2] + sums[3]);
    T sum = 0;
    for (const T lane : lanes) sum += lane;
    for (; i < count; ++i) sum += x[i] * T{0};
    return sum == T{0};
}

// Rounding to T keeps the order of binary64 numbers, so that only the largest need be rounded; and
// without norms the law keeps the order of the products.
template <class T>
T largest(const T* x, const double* norms, int64_t count, double offset, double factor) {
    const Law law{norms, offset, factor};
    int64_t i = 0;
    T best = law.one(x, 0);
    if (!norms) {
        constexpr int lanes = lanes_of<T>, width = 4 * lanes;
        T top = x[0];
        if (count >= width) {
            Vector<T> most[4];
#pragma GCC unroll 4
            for (int v = 0; v < 4; ++v) most[v] = load_vector(x + v * lanes);
            for (i = width; i < count; i += width) {
                // The last ones once more, where they are no multiple.
                const T* from = x + (i + width <= count ? i : count - width);
#pragma GCC unroll 4
                for (int v = 0; v < 4; ++v) {
                    const Vector<T> a = load_vector(from + v * lanes);
                    most[v] = a > most[v] ? a : most[v];
                }
            }
            most[0] = most[1] > most[0] ? most[1] : most[0];
            most[2] = most[3] > most[2] ? most[3] : most[2];
            T each[lanes];
            store(each, most[2] > most[0] ? most[2] : most[0]);
#pragma GCC unroll 16
            for (int half = lanes / 2; half > 0; half /= 2)
                for (int k = 0; k < half; ++k)
                    each[k] = each[k + half] > each[k] ? each[k + half] : each[k];
            top = each[0];
        }
        for (; i < count; ++i) top = x[i] > top ? x[i] : top;
        return law.one(&top, 0);
    }
    if (count >= double_lanes) {
        Double most = law.vector(x, 0);
        for (i = double_lanes; i + double_lanes <= count; i += double_lanes) {
            const Double a = law.vector(x, i);
            most = a > most ? a : most;
        }
        double each[double_lanes];
        store(each, most);
        for (int k = 0; k < double_lanes; ++k) {
            const T a = static_cast<T>(each[k]);
            best = a > best ? a : best;
        }
    }
    for (; i < count; ++i) {
        const T a = law.one(x, i);
        best = a > best ? a : best;
    }
    return best;
}

INFALL_HD float next_below(float a) { return __builtin_nextafterf(a, -__builtin_inff()); }
INFALL_HD double next_below(double a) { return __builtin_nextafter(a, -__builtin_inf()); }

// Without norms logits ascend with the products: those of products below this are below `bound`.
template <class T>
INFALL_HD T least_product(const Law& law, double bound) {
    const double quotient = bound / law.factor;
    // The law rounds three times, and what is subnormal to a multiple of 2^-1074.
    const double margin =
        0x1p-50 * (__builtin_fabs(law.offset) + __builtin_fabs(quotient)) + 0x1p-1000;
    return next_below(static_cast<T>(law.offset + (quotient - margin)));
}

template <class T>
INFALL_HD bool all_below(const T* x, int64_t count, T bound) {
    Vector<T> most = load_vector(x);
    for (int64_t i = lanes_of<T>; i < count; i += lanes_of<T>) {
        const Vector<T> a = load_vector(x + i);
        most = a > most ? a : most;
    }
    return !any(most >= Vector<T>{} + bound);
}

template <class T>
INFALL_HD bool all_below(const Law& law, const T* x, int64_t first, int64_t count, double bound) {
    Double most = law.vector(x, first);
    for (int64_t i = double_lanes; i < count; i += double_lanes) {
        const Double a = law.vector(x, first + i);
        most = a > most ? a : most;
    }
    return !any(most >= broadcast(bound));
}

template <class T>
int64_t at_least(const T* x, const double* norms, int64_t count, double offset, double factor,
                 T threshold, int32_t* positions) {
    constexpr int lanes = lanes_of<T>, stretch = 64;
    const Law law{norms, offset, factor};
    const double bound = next_below(threshold);  // what is less rounds to less than the threshold
    const T least = least_product<T>(law, bound);
    const auto none = [&](int64_t first, int64_t length) {
        return norms ? all_below(law, x, first, length, bound)
                     : all_below(x + first, length, least);
    };
    int64_t hits = 0;
    for (int64_t first = 0, end; first < count; first = end) {
        end = first + stretch;
        if (end <= count && none(first, stretch)) continue;
        end = first + lanes < count ? first + lanes : count;
        if (end == first + lanes && none(first, lanes)) continue;
        for (int64_t i = first; i < end; ++i) {
            positions[hits] = static_cast<int32_t>(i);
            hits += law.one(x, i) >= threshold;
        }
    }
    return hits;
}

// ---------------------------------------------------------------------------------------------
// Products of rows, for the orthonormal factor.

constexpr int64_t edge_depth = 512;

void add_edge(const double* a, int64_t a_stride, int64_t rows, const double* b, int64_t depth,
              double* sums, int64_t sums_stride, int64_t columns) {
    double padded[panel_rows * edge_depth], tile[panel_rows * panel_width];
    for (int64_t i = 0; i < panel_rows; ++i)
        for (int64_t k = 0; k < panel_width; ++k)
            tile[i * panel_width + k] = i < rows && k < columns ? sums[i * sums_stride + k] : 0.0;
    for (int64_t first = 0; first < depth; first += edge_depth) {
        const int64_t here = depth - first < edge_depth ? depth - first : edge_depth;
        for (int64_t i = 0; i < panel_rows; ++i)
            for (int64_t j = 0; j < here; ++j)
                padded[i * edge_depth + j] = i < rows ? a[i * a_stride + first + j] : 0.0;
        add_panel(padded, edge_depth, b + first * panel_width, here, tile, panel_width);
    }
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t k = 0; k < columns; ++k) sums[i * sums_stride + k] = tile[i * panel_width + k];
}

void add_products(const double* a, int64_t a_stride, int64_t rows, const double* b, int64_t depth,
                  double* sums, int64_t sums_stride, int64_t columns) {
    for (int64_t i = 0; i < rows; i += panel_rows) {
        if (rows - i >= panel_rows && columns == panel_width)
            add_panel(a + i * a_stride, a_stride, b, depth, sums + i * sums_stride, sums_stride);
        else
            add_edge(a + i * a_stride, a_stride, rows - i < panel_rows ? rows - i : panel_rows, b,
                     depth, sums + i * sums_stride, sums_stride, columns);
    }
}

double dot(const double* a, const double* b, int64_t count) {
    constexpr int vectors = frame_sum_lanes / double_lanes;
    Double sums[vectors] = {};
    int64_t i = 0;
    for (; i + frame_sum_lanes <= count; i += frame_sum_lanes)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v)
            sums[v] =
                fused(load(a + i + v * double_lanes), load(b + i + v * double_lanes), sums[v]);
    double lane[frame_sum_lanes];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) store(lane + v * double_lanes, sums[v]);
    for (int k = 0; i + k < count; ++k) lane[k] = __builtin_fma(a[i + k], b[i + k], lane[k]);
    return total_by_halves<frame_sum_lanes>(lane);
}

void subtract(const double* x, double factor, int64_t count, double* y) {
    const Double negative = broadcast(-factor);
    int64_t i = 0;
    for (; i + double_lanes <= count; i += double_lanes)
        store(y + i, fused(negative, load(x + i), load(y + i)));
    for (; i < count; ++i) y[i] = __builtin_fma(-factor, x[i], y[i]);
}

void multiply(double* x, double factor, int64_t count) {
    for (int64_t i = 0; i < count; ++i) x[i] *= factor;
}

template <class T>
constexpr FrameKernelsOf<T> kernels_of() {
    return {transform_block<T>, combine<T>,    scale<T>,   sum<T>,     centre<T>,
            logits<T>,          all_finite<T>, largest<T>, at_least<T>};
}

}  // namespace

extern const FrameKernels frame_kernels{
    kernels_of<float>(), kernels_of<double>(), panel_width, add_products, dot, subtract, multiply};

}  // namespace infall::INFALL_ISA
