// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include "rows/kernels.h"

#include "random/normal.h"
#include "random/philox.h"
#include "rows/directions.h"

#define INFALL_LAMBDA_INLINE __attribute__((always_inline))
#define INFALL_UNROLL _Pragma("GCC unroll 16")

#if defined(__AVX512F__)
#include "runtime/simd_avx512.h"
#elif defined(__AVX2__)
#include "runtime/simd_avx2.h"
#elif defined(__SSE4_2__)
#include "runtime/simd_sse4.h"
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include "runtime/simd_neon.h"
#else
#include "runtime/simd_scalar.h"
#endif

namespace infall {
namespace INFALL_ISA {
namespace {

constexpr int64_t block_tile = 512;  // Philox blocks (4 columns each) whose constants are at hand
constexpr int64_t column_tile = 64;  // columns of normals kept for a batch of directions
constexpr int64_t group_tile = 4;    // row groups kept for a batch of directions

// Broadcast coefficients and round keys. The kernels reach them through a pointer the compiler
// cannot see through, so that they are memory operands of the instructions that use them and the
// registers are free for what varies.
struct Broadcast {
    NormalCoefficients<Float> normal;
    Word k0[philox_rounds], k1[philox_rounds];

    explicit Broadcast(PhiloxKey key) {
        for (int round = 0; round < philox_rounds; ++round) {
            k0[round] = Word(key.first(round));
            k1[round] = Word(key.second(round));
        }
    }
};

INFALL_HD const Broadcast* opaque(const Broadcast& b) {
    const Broadcast* p = &b;
    asm volatile("" : "+r"(p) : : "memory");
    return p;
}

template <int N>
struct Stage {
    static constexpr int number = N;
};
struct Nothing {
    template <int N>
    INFALL_HD void operator()(Stage<N>) const {}
};

struct Words {
    Word w0, w1, w2, w3;
};

// One Philox block per row. `between(Stage<0..7>)` runs after the products of rounds 3 to 10.
template <class Between>
INFALL_HD Words block_words(const PhiloxRows<Wide>& rows, const PhiloxColumn& column,
                            const Broadcast* b, Between&& between) {
    PhiloxState<Wide> s;
    rows.start_third(s, column);
    between(Stage<0>{});
    rows.mix_third(s, column);
    const auto round = [&](auto stage) INFALL_LAMBDA_INLINE {
        constexpr int index = decltype(stage)::number + 2;
        s.multiply();
        between(stage);
        s.mix(b->k0[index], b->k1[index]);
    };
    round(Stage<1>{});
    round(Stage<2>{});
    round(Stage<3>{});
    round(Stage<4>{});
    round(Stage<5>{});
    round(Stage<6>{});
    s.multiply();
    between(Stage<7>{});
    return {xor3(pack_high(s.p1), pack_low(s.c1), b->k0[9]), pack_low(s.p1),
            xor3(pack_high(s.p0), pack_low(s.c3), b->k1[9]), pack_low(s.p0)};
}

// Unsigned: the group that is looked ahead at may lie past the last row there can be.
INFALL_HD PhiloxRows<Wide> row_constants(uint64_t first_row, const GaussianLayer& layer,
                                         PhiloxKey key) {
    const Word low = Word(static_cast<uint32_t>(first_row)) + lane_numbers();
    return PhiloxRows<Wide>(widen(low), layer.layer, key);
}

// Of the blocks first_block, ... of `matrix`, at rows that share the upper word of first_row.
void column_constants(RandomMatrix matrix, int64_t first_row, int64_t first_block, int64_t blocks,
                      PhiloxKey key, PhiloxColumn* columns) {
    const uint32_t row_high = static_cast<uint32_t>(static_cast<uint64_t>(first_row) >> 32);
    const uint32_t first = matrix.first_block + static_cast<uint32_t>(first_block);
    for (int64_t i = 0; i < blocks; ++i)
        columns[i] =
            PhiloxColumn(row_high | matrix.position_bits, first + static_cast<uint32_t>(i), key);
}

// Normals of `groups` row groups from first_row on, in the column blocks of `columns`:
// sink(block, z0, z1, z2, z3) per block in order, sink.end_group() after the last of a group.
// The words of a block are drawn while the block before it is turned into normals.
template <class Sink>
INFALL_HD void generate(const GaussianLayer& layer, int64_t first_row, int64_t groups,
                        const PhiloxColumn* columns, int64_t blocks, const Broadcast* b,
                        Sink& sink) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    uint64_t row = static_cast<uint64_t>(first_row);
    PhiloxRows<Wide> rows = row_constants(row, layer, key);
    Words words = block_words(rows, columns[0], b, Nothing{});
    const NormalCoefficients<Float>& k = b->normal;
    int64_t block = 0;
    for (int64_t left = groups * blocks; left > 0; --left) {
        int64_t next = block + 1;
        if (next == blocks) {
            next = 0;
            row += lanes;
            rows = row_constants(row, layer, key);
        }
        BoxMuller<Float, Word> even, odd;
        Float z0, z1, z2, z3;
        const auto stage = [&](auto number) INFALL_LAMBDA_INLINE {
            constexpr int n = decltype(number)::number;
            if constexpr (n == 0) {
                even.stage0(words.w0, words.w1, k);
                odd.stage0(words.w2, words.w3, k);
            } else if constexpr (n == 7) {
                even.stage7(z0, z1);
                odd.stage7(z2, z3);
            } else {
                even.template middle_stage<n>(k);
                odd.template middle_stage<n>(k);
            }
        };
        words = block_words(rows, columns[next], b, stage);
        sink(block, z0, z1, z2, z3);
        if (next == 0) sink.end_group();
        block = next;
    }
}

// ---------------------------------------------------------------------------------------------

void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count,
                   int64_t first_column, int64_t columns, float* out) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const Broadcast broadcast(key);
    const Broadcast* b = opaque(broadcast);
    const int64_t first_block = first_column / 4, blocks = padded_dim(columns) / 4;
    alignas(64) float z[4][lanes];
    // Lane = column block here: one row at a time, from any place in the layer.
    for (int64_t i = 0; i < count; ++i, out += layer.dim) {
        const uint64_t row = static_cast<uint64_t>(indices[i]);
        for (int64_t first = 0; first < blocks; first += lanes) {
            PhiloxState<Wide> s;
            s.c0 = widen(Word(static_cast<uint32_t>(row)));
            s.c1 = widen(Word(static_cast<uint32_t>(row >> 32) | layer.matrix.position_bits));
            s.c2 =
                widen(Word(layer.matrix.first_block + static_cast<uint32_t>(first_block + first)) +
                      lane_numbers());
            s.c3 = widen(Word(layer.layer));
            for (int round = 0; round < philox_rounds - 1; ++round) {
                s.multiply();
                s.mix(b->k0[round], b->k1[round]);
            }
            s.multiply();
            const Word w0 = xor3(pack_high(s.p1), pack_low(s.c1), b->k0[9]);
            const Word w2 = xor3(pack_high(s.p0), pack_low(s.c3), b->k1[9]);
            Float z0, z1, z2, z3;
            box_muller(w0, pack_low(s.p1), b->normal, z0, z1);
            box_muller(w2, pack_low(s.p0), b->normal, z2, z3);
            store(z[0], z0);
            store(z[1], z1);
            store(z[2], z2);
            store(z[3], z3);
            const int64_t left = columns - 4 * first;
            const int64_t here = left < 4 * lanes ? left : 4 * lanes;
            for (int64_t j = 0; j < here; ++j) out[4 * first + j] = z[j % 4][j / 4];
        }
    }
}

struct ProjectOne {
    const float* w;
    float *scores, *end;
    bool continues;  // an earlier tile of columns has left its sums in `scores`
    Float sum;

    INFALL_HD ProjectOne(const float* w_, float* scores_, int64_t rows, bool continues_)
        : w(w_), scores(scores_), end(scores_ + rows), continues(continues_) {
        begin_group();
    }
    INFALL_HD void operator()(int64_t block, Float z0, Float z1, Float z2, Float z3) {
        const float* column = w + 4 * block;
        sum = fused(z0, Float(column[0]), sum);
        sum = fused(z1, Float(column[1]), sum);
        sum = fused(z2, Float(column[2]), sum);
        sum = fused(z3, Float(column[3]), sum);
    }
    INFALL_HD void end_group() {
        store(scores, sum);
        scores += lanes;
        begin_group();
    }
    INFALL_HD void begin_group() { sum = continues && scores < end ? load(scores) : Float(0.0f); }
};

struct KeepTile {
    float* tile;  // (columns, group_tile, lanes)
    int64_t group = 0;

    INFALL_HD void operator()(int64_t block, Float z0, Float z1, Float z2, Float z3) {
        float* column = tile + (4 * block * group_tile + group) * lanes;
        store(column, z0);
        store(column + group_tile * lanes, z1);
        store(column + 2 * group_tile * lanes, z2);
        store(column + 3 * group_tile * lanes, z3);
    }
    INFALL_HD void end_group() { ++group; }
};

// scores[d, rows of the tile] += tile . w[d], columns in order, for `directions` rows of w and
// `vectors` row groups at a time: all sums stay in registers.
template <int directions, int vectors>
INFALL_HD void accumulate(const float* tile, int64_t columns, const float* w, int64_t w_stride,
                          float* scores, int64_t score_stride, bool continues) {
    Float sums[directions][vectors];
    INFALL_UNROLL
    for (int d = 0; d < directions; ++d) INFALL_UNROLL
    for (int v = 0; v < vectors; ++v)
        sums[d][v] = continues ? load(scores + d * score_stride + v * lanes) : Float(0.0f);
    for (int64_t j = 0; j < columns; ++j, tile += group_tile * lanes) {
        Float z[vectors];
        INFALL_UNROLL
        for (int v = 0; v < vectors; ++v) z[v] = load(tile + v * lanes);
        INFALL_UNROLL
        for (int d = 0; d < directions; ++d) {
            const Float weight(w[d * w_stride + j]);
            INFALL_UNROLL
            for (int v = 0; v < vectors; ++v) sums[d][v] = fused(z[v], weight, sums[d][v]);
        }
    }
    INFALL_UNROLL
    for (int d = 0; d < directions; ++d) INFALL_UNROLL
    for (int v = 0; v < vectors; ++v) store(scores + d * score_stride + v * lanes, sums[d][v]);
}

template <int vectors>
void accumulate_batch(const float* tile, int64_t columns, const float* w, int64_t w_stride,
                      int64_t batch, float* scores, int64_t score_stride, bool continues) {
    int64_t d = 0;
    for (; d + 6 <= batch; d += 6)
        accumulate<6, vectors>(tile, columns, w + d * w_stride, w_stride, scores + d * score_stride,
                               score_stride, continues);
    for (; d + 2 <= batch; d += 2)
        accumulate<2, vectors>(tile, columns, w + d * w_stride, w_stride, scores + d * score_stride,
                               score_stride, continues);
    for (; d < batch; ++d)
        accumulate<1, vectors>(tile, columns, w + d * w_stride, w_stride, scores + d * score_stride,
                               score_stride, continues);
}

// The first `valid` groups of a tile.
void accumulate_tile(const float* tile, int64_t valid, int64_t columns, const float* w,
                     int64_t w_stride, int64_t batch, float* scores, int64_t score_stride,
                     bool continues) {
    constexpr int64_t vectors = registers == 32 ? group_tile : group_tile / 2;  // 6 x vectors sums
    int64_t v = 0;
    for (; v + vectors <= valid; v += vectors)
        accumulate_batch<vectors>(tile + v * lanes, columns, w, w_stride, batch, scores + v * lanes,
                                  score_stride, continues);
    for (; v < valid; ++v)
        accumulate_batch<1>(tile + v * lanes, columns, w, w_stride, batch, scores + v * lanes,
                            score_stride, continues);
}

void project_layer(const GaussianLayer& layer, int64_t first_row, int64_t groups,
                   int64_t first_block, int64_t end_block, const float* w, int64_t batch,
                   float* scores) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const Broadcast broadcast(key);
    const Broadcast* b = opaque(broadcast);
    const int64_t width = padded_dim(layer.dim), rows = groups * lanes;
    PhiloxColumn columns[block_tile];
    alignas(64) float tile[column_tile * group_tile * lanes];
    for (int64_t first = first_block; first < end_block; first += block_tile) {
        const int64_t here = end_block - first < block_tile ? end_block - first : block_tile;
        column_constants(layer.matrix, first_row, first, here, key, columns);
        if (batch == 1) {
            ProjectOne sink(w + 4 * first, scores, rows, first > 0);
            generate(layer, first_row, groups, columns, here, b, sink);
            continue;
        }
        for (int64_t group = 0; group < groups; group += group_tile) {
            // A short last tile is generated whole and only its valid groups are kept.
            const int64_t valid = groups - group < group_tile ? groups - group : group_tile;
            for (int64_t block = 0; block < here; block += column_tile / 4) {
                const int64_t some =
                    here - block < column_tile / 4 ? here - block : column_tile / 4;
                KeepTile sink{tile};
                generate(layer, first_row + group * lanes, group_tile, columns + block, some, b,
                         sink);
                const bool continues = first + block > 0;
                accumulate_tile(tile, valid, 4 * some, w + 4 * (first + block), width, batch,
                                scores + group * lanes, rows, continues);
            }
        }
    }
}

// Sums of `vectors * lanes` rows of a matrix in Fortran order: columns are read contiguously.
template <int vectors>
void project_columns(const float* from, int64_t column_stride, int64_t dim, const float* w,
                     float* sums) {
    Float sum[vectors];
    INFALL_UNROLL
    for (int v = 0; v < vectors; ++v) sum[v] = Float(0.0f);
    for (int64_t j = 0; j < dim; ++j, from += column_stride) {
        const Float weight(w[j]);
        INFALL_UNROLL
        for (int v = 0; v < vectors; ++v) sum[v] = fused(load(from + v * lanes), weight, sum[v]);
    }
    INFALL_UNROLL
    for (int v = 0; v < vectors; ++v) store(sums + v * lanes, sum[v]);
}

// Short rows in C order are copied together first: memory is then read line after line, which the
// reads across rows are not (on one core of a Zen 4 server 20 against 9 GB/s).
constexpr int64_t short_row = 256;

template <class T, int rows>
struct RowBlock {
    alignas(64) T copy[rows * short_row];
    const T* from;
    int64_t stride;

    INFALL_HD RowBlock(const T* first, int64_t row_stride, int64_t dim)
        : from(first), stride(row_stride) {
        if (dim > short_row) return;
        for (int r = 0; r < rows; ++r)
            memcpy(copy + r * dim, first + r * row_stride, static_cast<size_t>(dim) * sizeof(T));
        from = copy;
        stride = dim;
    }
};

// Sums of `lanes` rows in C order: blocks of lanes x lanes are transposed in registers.
void project_rows(const float* first, int64_t row_stride, int64_t dim, const float* w,
                  float* sums) {
    const RowBlock<float, lanes> rows(first, row_stride, dim);
    alignas(64) float column[lanes];
    Float columns[lanes];
    Float sum(0.0f);
    int64_t j = 0;
    for (; j + lanes <= dim; j += lanes) {
        load_transposed(rows.from + j, rows.stride, columns);
        INFALL_UNROLL
        for (int c = 0; c < lanes; ++c) sum = fused(columns[c], Float(w[j + c]), sum);
    }
    for (; j < dim; ++j) {
        for (int r = 0; r < lanes; ++r) column[r] = rows.from[r * rows.stride + j];
        sum = fused(load(column), Float(w[j]), sum);
    }
    store(sums, sum);
}

void project_float32(const MatrixRows& rows, int64_t count, const float* w, int64_t batch,
                     int64_t score_stride, float* scores) {
    constexpr int groups_at_once = 8;
    const float* data = static_cast<const float*>(rows.data);
    for (int64_t d = 0; d < batch; ++d, w += rows.dim, scores += score_stride) {
        int64_t row = 0;
        if (rows.row_stride == 1) {
            for (; row + groups_at_once * lanes <= count; row += groups_at_once * lanes)
                project_columns<groups_at_once>(data + row, rows.column_stride, rows.dim, w,
                                                scores + row);
        } else if (rows.column_stride == 1) {
            for (; row + lanes <= count; row += lanes)
                project_rows(data + row * rows.row_stride, rows.row_stride, rows.dim, w,
                             scores + row);
        }
        for (; row < count; ++row) {  // any strides, and what is left over
            const float* entry = data + row * rows.row_stride;
            float sum = 0.0f;
            for (int64_t j = 0; j < rows.dim; ++j, entry += rows.column_stride)
                sum = infall::fused(*entry, w[j], sum);
            scores[row] = sum;
        }
    }
}

void project_float64(const MatrixRows& rows, int64_t count, const double* w, int64_t batch,
                     int64_t score_stride, double* scores) {
    constexpr int width = 8;  // rows side by side, left to the compiler to vectorise
    const double* data = static_cast<const double*>(rows.data);
    for (int64_t d = 0; d < batch; ++d, w += rows.dim, scores += score_stride) {
        int64_t row = 0;
        for (; row + width <= count; row += width) {
            const double* from = data + row * rows.row_stride;
            double sums[width] = {};
            if (rows.row_stride == 1) {
                for (int64_t j = 0; j < rows.dim; ++j, from += rows.column_stride)
                    for (int r = 0; r < width; ++r) sums[r] = infall::fused(from[r], w[j], sums[r]);
            } else if (rows.column_stride == 1) {
                const RowBlock<double, width> block(from, rows.row_stride, rows.dim);
                for (int64_t j = 0; j < rows.dim; ++j)
                    for (int r = 0; r < width; ++r)
                        sums[r] = infall::fused(block.from[r * block.stride + j], w[j], sums[r]);
            } else {
                for (int64_t j = 0; j < rows.dim; ++j, from += rows.column_stride)
                    for (int r = 0; r < width; ++r)
                        sums[r] = infall::fused(from[r * rows.row_stride], w[j], sums[r]);
            }
            for (int r = 0; r < width; ++r) scores[row + r] = sums[r];
        }
        for (; row < count; ++row) {
            const double* entry = data + row * rows.row_stride;
            double sum = 0.0;
            for (int64_t j = 0; j < rows.dim; ++j, entry += rows.column_stride)
                sum = infall::fused(*entry, w[j], sum);
            scores[row] = sum;
        }
    }
}

int64_t scores_at_least(const float* scores, int64_t count, float threshold, bool absolute,
                        int32_t* positions) {
    const Float bound(threshold);
    int64_t found = 0, i = 0;
    for (; i + lanes <= count; i += lanes)
        for (uint32_t hits = at_least(load(scores + i), bound, absolute); hits; hits &= hits - 1)
            positions[found++] = static_cast<int32_t>(i) + __builtin_ctz(hits);
    for (; i < count; ++i)
        if ((absolute ? __builtin_fabsf(scores[i]) : scores[i]) >= threshold)
            positions[found++] = static_cast<int32_t>(i);
    return found;
}

int64_t deciding_candidates(const GaussianLayer& layer, uint32_t column, int64_t first_pair,
                            int64_t groups, uint32_t bound, int32_t* offsets) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const Broadcast broadcast(key);
    const Broadcast* b = opaque(broadcast);
    PhiloxColumn constants;
    column_constants({0, deciding_columns}, first_pair, column, 1, key, &constants);
    int64_t found = 0;
    for (int64_t i = 0; i < groups * lanes; i += lanes) {
        const PhiloxRows<Wide> rows =
            row_constants(static_cast<uint64_t>(first_pair + i), layer, key);
        const Words words = block_words(rows, constants, b, Nothing{});
        for (uint32_t hits = at_most(words.w0, Word(bound)); hits; hits &= hits - 1)
            offsets[found++] = static_cast<int32_t>(i) + __builtin_ctz(hits);
    }
    return found;
}

struct KeepDeciding {
    float *even, *odd;    // (columns, group_tile, lanes)
    float* square_radii;  // (group_tile, lanes)
    bool continues;
    int64_t group = 0;
    Float largest = Float(0.0f);

    INFALL_HD void operator()(int64_t block, Float z0, Float z1, Float, Float) {
        store(even + (block * group_tile + group) * lanes, z0);
        store(odd + (block * group_tile + group) * lanes, z1);
        largest = larger(largest, fused(z0, z0, z1 * z1));
    }
    INFALL_HD void end_group() {
        float* target = square_radii + group * lanes;
        store(target, continues ? larger(load(target), largest) : largest);
        largest = Float(0.0f);
        ++group;
    }
};

void estimate_deciding(const GaussianLayer& layer, int64_t first_pair, int64_t groups, int64_t span,
                       const float* factors, int64_t batch, float* even, float* odd,
                       float* square_radii) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const Broadcast broadcast(key);
    const Broadcast* b = opaque(broadcast);
    const int64_t pairs = groups * lanes;
    PhiloxColumn columns[column_tile];
    alignas(64) float even_tile[column_tile * group_tile * lanes];
    alignas(64) float odd_tile[column_tile * group_tile * lanes];
    alignas(64) float radii[group_tile * lanes] = {};  // a short last tile leaves some out
    for (int64_t first = 0; first < span; first += column_tile) {
        const int64_t some = span - first < column_tile ? span - first : column_tile;
        column_constants({0, deciding_columns}, first_pair, first, some, key, columns);
        for (int64_t group = 0; group < groups; group += group_tile) {
            const int64_t valid = groups - group < group_tile ? groups - group : group_tile;
            float* found = square_radii + group * lanes;
            if (first > 0) memcpy(radii, found, sizeof(float) * valid * lanes);
            KeepDeciding sink{even_tile, odd_tile, radii, first > 0};
            generate(layer, first_pair + group * lanes, group_tile, columns, some, b, sink);
            memcpy(found, radii, sizeof(float) * valid * lanes);
            accumulate_tile(even_tile, valid, some, factors + first, span, batch,
                            even + group * lanes, pairs, first > 0);
            accumulate_tile(odd_tile, valid, some, factors + first, span, batch,
                            odd + group * lanes, pairs, first > 0);
        }
    }
}

void reflect(double* x, int64_t dim, const double* v, const double* scale, int64_t first,
             int64_t end) {
    for (int64_t h = end - 1; h >= first; --h) infall::reflect(x, 1, v + h * dim, scale[h], h, dim);
}

void largest_folded_normals(LargestFoldedNormals& largest, double* exponentials, int64_t count) {
    for (int64_t j = 0; j < count; ++j) exponentials[j] = largest.next(exponentials[j]);
}

INFALL_HD int64_t differing_bits(const uint8_t* a, const uint8_t* b, int64_t bytes) {
    int64_t count = 0, i = 0;
    for (; i + 8 <= bytes; i += 8) {
        uint64_t x, y;
        memcpy(&x, a + i, 8);
        memcpy(&y, b + i, 8);
        count += __builtin_popcountll(x ^ y);
    }
    for (; i < bytes; ++i) count += __builtin_popcount(static_cast<unsigned>(a[i] ^ b[i]));
    return count;
}

void hamming_distances(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                       int64_t bytes, int32_t* out) {
    constexpr int64_t tile = 64;  // codes of b that stay in the cache while those of a pass
    for (int64_t first = 0; first < b_count; first += tile) {
        const int64_t last = first + tile < b_count ? first + tile : b_count;
        for (int64_t i = 0; i < a_count; ++i)
            for (int64_t j = first; j < last; ++j)
                out[i * b_count + j] =
                    static_cast<int32_t>(differing_bits(a + i * bytes, b + j * bytes, bytes));
    }
}

}  // namespace

extern const RowKernels row_kernels{
    lanes,           gaussian_rows,          project_layer,       project_float32,
    project_float64, scores_at_least,        deciding_candidates, estimate_deciding,
    reflect,         largest_folded_normals, hamming_distances};

}  // namespace INFALL_ISA
}  // namespace infall
