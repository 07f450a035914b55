// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include <cstring>

#include "classes/geometry.h"
#include "runtime/panel.h"

namespace infall::INFALL_ISA {
namespace {

constexpr double infinity = __builtin_inf();
constexpr int64_t column_tile = 256;  // columns of the means that are packed at a time
static_assert(partner_block % panel_width == 0 && sum_lanes % double_lanes == 0);

constexpr int64_t rounded_up(int64_t count) {
    return (count + panel_rows - 1) / panel_rows * panel_rows;
}

int64_t scratch_size(int64_t count) {
    return rounded_up(count) * partner_block + (partner_block + panel_rows) * column_tile;
}

double largest_magnitude(const double* values, int64_t count) {
    double largest[sum_lanes] = {};
    int64_t i = 0;
    for (; i + sum_lanes <= count; i += sum_lanes)
        for (int lane = 0; lane < sum_lanes; ++lane) {
            const double magnitude = __builtin_fabs(values[i + lane]);
            largest[lane] = magnitude > largest[lane] ? magnitude : largest[lane];
        }
    for (; i < count; ++i)
        largest[0] =
            __builtin_fabs(values[i]) > largest[0] ? __builtin_fabs(values[i]) : largest[0];
    for (int lane = 1; lane < sum_lanes; ++lane)
        largest[0] = largest[lane] > largest[0] ? largest[lane] : largest[0];
    return largest[0];
}

void square_norms(const double* means, int64_t count, int64_t dim, double scale, double* out) {
    constexpr int together = 8;  // side by side, so that sums need not wait for one another
    for (int64_t first = 0; first < count; first += together) {
        const double* rows[together];
        double sums[together] = {};
        for (int i = 0; i < together; ++i)  // spare places repeat the last row
            rows[i] = means + (first + i < count ? first + i : count - 1) * dim;
        for (int64_t j = 0; j < dim; ++j)
            for (int i = 0; i < together; ++i) {
                const double entry = scale * rows[i][j];
                sums[i] = infall::fused(entry, entry, sums[i]);
            }
        for (int i = 0; i < together && first + i < count; ++i) out[first + i] = sums[i];
    }
}

// distance_between(a, b, dim, scale) by vectors: lane = column % sum_lanes.
double vector_distance_between(const double* a, const double* b, int64_t dim, double scale) {
    constexpr int vectors = sum_lanes / double_lanes;
    const Double unit = broadcast(scale);
    Double sums[vectors] = {};
    int64_t j = 0;
    for (; j + sum_lanes <= dim; j += sum_lanes)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            const int64_t at = j + v * double_lanes;
            const Double difference = unit * load(a + at) - unit * load(b + at);
            sums[v] = fused(difference, difference, sums[v]);
        }
    double lanes[sum_lanes];
    for (int v = 0; v < vectors; ++v) store(lanes + v * double_lanes, sums[v]);
    for (; j < dim; ++j) {
        const double difference = scale * a[j] - scale * b[j];
        double& sum = lanes[j % sum_lanes];
        sum = infall::fused(difference, difference, sum);
    }
    return total_by_neighbours(lanes);
}

struct Scratch {
    double* products;  // (count rounded up, partner_block)
    double* partners;  // (panels, depth, panel_width)
    double* tail;      // (panel_rows, depth)

    Scratch(double* scratch, int64_t count)
        : products(scratch),
          partners(scratch + rounded_up(count) * partner_block),
          tail(partners + partner_block * column_tile) {}
};

// Columns [first, first + depth) of `rows` <= panel_width means, times scale^2, side by side.
void pack_panel(const double* mean, int64_t dim, int64_t rows, int64_t depth, double scale,
                double* panel) {
    for (int64_t k = 0; k < rows; ++k, mean += dim)
        for (int64_t j = 0; j < depth; ++j) panel[j * panel_width + k] = mean[j] * scale * scale;
    for (int64_t k = rows; k < panel_width; ++k)
        for (int64_t j = 0; j < depth; ++j) panel[j * panel_width + k] = 0.0;
}

// Scaled inner products of classes [first, first + count) with a block of partners. With
// `partners_above`, panels in which no partner is above the class are left at 0.
void multiply(const ClassGeometry& g, int64_t first, int64_t count, int64_t block,
              bool partners_above, const Scratch& scratch) {
    const int64_t first_partner = block * partner_block;
    const int64_t left = g.classes - first_partner;
    const int64_t partners = left < partner_block ? left : partner_block;
    memset(scratch.products, 0, sizeof(double) * rounded_up(count) * partner_block);
    for (int64_t column = 0; column < g.dim; column += column_tile) {
        const int64_t depth = g.dim - column < column_tile ? g.dim - column : column_tile;
        const double* from = g.means + column;
        const int64_t whole = count / panel_rows * panel_rows;
        for (int64_t i = whole; i < count; ++i)
            memcpy(scratch.tail + (i - whole) * depth, from + (first + i) * g.dim,
                   sizeof(double) * depth);
        if (whole < count)
            memset(scratch.tail + (count - whole) * depth, 0,
                   sizeof(double) * (panel_rows - (count - whole)) * depth);
        for (int64_t k = 0; k < partners; k += panel_width) {
            const int64_t here = partners - k < panel_width ? partners - k : panel_width;
            const int64_t last = first_partner + k + here - 1;
            if (partners_above && first >= last) continue;
            pack_panel(from + (first_partner + k) * g.dim, g.dim, here, depth, g.scale,
                       scratch.partners);
            for (int64_t i = 0; i < count; i += panel_rows) {
                if (partners_above && first + i >= last) break;
                double* products = scratch.products + i * partner_block + k;
                if (i < whole)
                    add_panel(from + (first + i) * g.dim, g.dim, scratch.partners, depth, products,
                              partner_block);
                else
                    add_panel(scratch.tail, depth, scratch.partners, depth, products,
                              partner_block);
            }
        }
    }
}

// Square distances of a class from a block of partners, right to all digits but a few; partners
// below `lowest` are not looked at closely.
void distances_of(const ClassGeometry& g, int64_t row, int64_t block, int64_t lowest,
                  const double* products, double* distances) {
    const int64_t first_partner = block * partner_block;
    const int64_t left = g.classes - first_partner;
    const int64_t partners = left < partner_block ? left : partner_block;
    const Double square = broadcast(g.square_norms[row]), share = broadcast(close_share);
    Long any_close{};
    for (int64_t k = 0; k < partner_block; k += double_lanes) {
        const Double others = load(g.square_norms + first_partner + k);
        const Double distance = square_distance(load(products + k), square, others);
        store(distances + k, distance);
        any_close |= distance <= share * (square + others);
    }
    if (!any(any_close)) return;
    for (int64_t k = lowest > first_partner ? lowest - first_partner : 0; k < partners; ++k) {
        const int64_t partner = first_partner + k;
        if (partner != row &&
            distances[k] <= close_share * (g.square_norms[row] + g.square_norms[partner]))
            distances[k] = vector_distance_between(g.means + row * g.dim, g.means + partner * g.dim,
                                                   g.dim, g.scale);
    }
}

INFALL_HD Double cdnv_of(Double a_variance, Double b_variance, Double distance) {
    const Double value = distance_normalised_variance(a_variance, b_variance, distance);
    return distance > Double{} ? value : broadcast(infinity);
}

// Largest value of the lanes and its partner, the lowest one on ties.
struct Largest {
    double value = -infinity;
    int64_t partner = -1;

    Largest(const double* values, const int64_t* partners) {
        for (int lane = 0; lane < sum_lanes; ++lane)
            if (partners[lane] >= 0 &&
                (partner < 0 || beats(values[lane], partners[lane], value, partner))) {
                value = values[lane];
                partner = partners[lane];
            }
    }
};

// Adds one block of partners to the totals of a class; `masked` where the block also holds partners
// that do not count: those not above the class, and the padding.
template <bool masked>
void add_block(const ClassGeometry& g, int64_t row, int64_t block, const double* products,
               const double* distances, const PairTotals& totals) {
    const int64_t first_partner = block * partner_block;
    const double *variances = g.variances + first_partner, *norms = g.inverse_norms + first_partner;
    double cdnv_sums[sum_lanes], cdnv_largest[sum_lanes], cdnv_least[sum_lanes];
    double excess_sums[sum_lanes], excess_squares[sum_lanes], excess_largest[sum_lanes];
    double gram_sums[sum_lanes], gram_squares[sum_lanes];
    int64_t cdnv_partners[sum_lanes], excess_partners[sum_lanes];
    const Double variance = broadcast(g.variances[row]), norm = broadcast(g.inverse_norms[row]);
    const Double shift = broadcast(g.excess), offset = broadcast(g.offset);
    for (int lane = 0; lane < sum_lanes; lane += double_lanes) {
        Double cdnv_sum{}, cdnv_max = broadcast(-infinity), cdnv_min = broadcast(infinity);
        Double excess_sum{}, excess_square{}, excess_max = broadcast(-infinity);
        Double gram_sum{}, gram_square{};
        Long cdnv_argmax = Long{} - 1, excess_argmax = Long{} - 1, partner;
        for (int i = 0; i < double_lanes; ++i) partner[i] = first_partner + lane + i;
        for (int64_t k = lane; k < partner_block; k += sum_lanes, partner += sum_lanes) {
            const Double product = load(products + k);
            Double v = cdnv_of(variance, load(variances + k), load(distances + k));
            Double x = cosine_excess(product, norm, load(norms + k), shift);
            Double y = product + offset, least = v;
            Long larger_v = v > cdnv_max, larger_x = x > excess_max;
            if (masked) {
                const Long counts = (partner > row) & (partner < g.classes);
                larger_v &= counts;
                larger_x &= counts;
                least = counts ? v : broadcast(infinity);
                v = counts ? v : Double{};
                x = counts ? x : Double{};
                y = counts ? y : Double{};
            }
            cdnv_sum += v;
            cdnv_max = larger_v ? v : cdnv_max;
            cdnv_argmax = larger_v ? partner : cdnv_argmax;
            cdnv_min = least < cdnv_min ? least : cdnv_min;
            excess_sum += x;
            excess_square += x * x;
            excess_max = larger_x ? x : excess_max;
            excess_argmax = larger_x ? partner : excess_argmax;
            gram_sum += y;
            gram_square += y * y;
        }
        store(cdnv_sums + lane, cdnv_sum);
        store(cdnv_largest + lane, cdnv_max);
        store(cdnv_least + lane, cdnv_min);
        store(excess_sums + lane, excess_sum);
        store(excess_squares + lane, excess_square);
        store(excess_largest + lane, excess_max);
        store(gram_sums + lane, gram_sum);
        store(gram_squares + lane, gram_square);
        for (int i = 0; i < double_lanes; ++i) {
            cdnv_partners[lane + i] = cdnv_argmax[i];
            excess_partners[lane + i] = excess_argmax[i];
        }
    }
    totals.cdnv_sum[row] += total_by_neighbours(cdnv_sums);
    totals.excess_sum[row] += total_by_neighbours(excess_sums);
    totals.excess_squares[row] += total_by_neighbours(excess_squares);
    totals.gram_sum[row] += total_by_neighbours(gram_sums);
    totals.gram_squares[row] += total_by_neighbours(gram_squares);
    for (int lane = 0; lane < sum_lanes; ++lane)
        if (cdnv_least[lane] < totals.cdnv_min[row]) totals.cdnv_min[row] = cdnv_least[lane];
    const Largest cdnv(cdnv_largest, cdnv_partners), excess(excess_largest, excess_partners);
    if (cdnv.value > totals.cdnv_max[row]) {
        totals.cdnv_max[row] = cdnv.value;
        totals.cdnv_argmax[row] = cdnv.partner;
    }
    if (excess.value > totals.excess_max[row]) {
        totals.excess_max[row] = excess.value;
        totals.excess_argmax[row] = excess.partner;
    }
}

void add_partners(const ClassGeometry& g, int64_t first_class, int64_t count, int64_t first_block,
                  int64_t end_block, const PairTotals& totals, double* memory) {
    const Scratch scratch(memory, count);
    double distances[partner_block];
    for (int64_t block = first_block; block < end_block; ++block) {
        const int64_t first_partner = block * partner_block, end = first_partner + partner_block;
        if (first_class >= end - 1) continue;  // no partner is above a class
        multiply(g, first_class, count, block, true, scratch);
        for (int64_t i = 0; i < count && first_class + i < end - 1; ++i) {
            const int64_t row = first_class + i;
            const double* products = scratch.products + i * partner_block;
            distances_of(g, row, block, row + 1, products, distances);
            if (first_partner > row && end <= g.classes)
                add_block<false>(g, row, block, products, distances, totals);
            else
                add_block<true>(g, row, block, products, distances, totals);
        }
    }
}

void cdnv_partners(const ClassGeometry& g, int64_t first_class, int64_t count, int64_t block,
                   double* out, double* memory) {
    const Scratch scratch(memory, count);
    double distances[partner_block], values[partner_block];
    const int64_t first_partner = block * partner_block;
    const int64_t left = g.classes - first_partner;
    const int64_t partners = left < partner_block ? left : partner_block;
    multiply(g, first_class, count, block, false, scratch);
    for (int64_t i = 0; i < count; ++i) {
        const int64_t row = first_class + i;
        distances_of(g, row, block, 0, scratch.products + i * partner_block, distances);
        const Double variance = broadcast(g.variances[row]);
        for (int64_t k = 0; k < partner_block; k += double_lanes)
            store(values + k,
                  cdnv_of(variance, load(g.variances + first_partner + k), load(distances + k)));
        if (row >= first_partner && row < first_partner + partner_block)
            values[row - first_partner] = 0.0;
        memcpy(out + i * g.classes + first_partner, values, sizeof(double) * partners);
    }
}

}  // namespace

// Fewer where the C library computes fused multiply-adds.
constexpr int64_t block_products = int64_t{1} << (has_fused ? 26 : 22);

extern const GeometryKernels geometry_kernels{panel_rows,        block_products, scratch_size,
                                              largest_magnitude, square_norms,   add_partners,
                                              cdnv_partners};

}  // namespace infall::INFALL_ISA
