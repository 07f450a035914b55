// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include <cstring>

#include "random/gaussian.h"
#include "random/vector_normal.h"

namespace infall::INFALL_ISA {
namespace {

// Writes (rows, columns) in order, a vector of blocks of four columns at a time; the last block of
// a row is cut where columns is no multiple of four.
class BlockWriter {
  public:
    BlockWriter(float* out, int64_t rows, int64_t columns)
        : out_(out),
          left_(rows * columns),
          columns_(columns % 4 == 0 ? left_ : columns),  // whole blocks lie side by side
          left_in_row_(columns_) {}

    INFALL_HD void operator()(Float z0, Float z1, Float z2, Float z3) {
        if (left_in_row_ >= 4 * lanes) {
            store_interleaved(out_, z0, z1, z2, z3);
            advance(4 * lanes);
            return;
        }
        alignas(64) float blocks[4 * lanes];
        store_interleaved(blocks, z0, z1, z2, z3);
        for (int64_t lane = 0; lane < lanes && left_ > 0; ++lane) {
            const float* block = blocks + 4 * lane;
            if (left_ >= 4)  // the row that follows takes what is too much
                memcpy(out_, block, 4 * sizeof(float));
            else
                memcpy(out_, block, left_ * sizeof(float));
            advance(left_in_row_ < 4 ? left_in_row_ : 4);
        }
    }

  private:
    INFALL_HD void advance(int64_t columns) {
        out_ += columns;
        left_ -= columns;
        left_in_row_ -= columns;
        if (left_in_row_ == 0) left_in_row_ = columns_;
    }

    float* out_;
    int64_t left_, columns_, left_in_row_;
};

void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count,
                   int64_t first_column, int64_t columns, float* out) {
    const Broadcast broadcast(PhiloxKey::from_seed(layer.seed));
    const Broadcast* b = opaque(broadcast);
    const int64_t blocks = padded_dim(columns) / 4;
    BlocksOfRows drawn(indices, count, layer.matrix.first_block + first_column / 4, blocks);
    BlockWriter writer(out, count, columns);
    const Word position_bits(layer.matrix.position_bits);
    const auto draw = [&](auto&& between) INFALL_LAMBDA_INLINE {
        Word low, high, block;
        drawn.next(low, high, block);
        return counter_words(low, high + position_bits, block, layer.layer, b, between);
    };
    Words words = draw(Nothing{});
    for (int64_t left = count * blocks; left > 0; left -= lanes) {
        BlockNormals z;
        words = draw([&](auto number) INFALL_LAMBDA_INLINE {
            z.stage<decltype(number)::number>(words, b->normal);
        });
        writer(z.z0, z.z1, z.z2, z.z3);
    }
}

}  // namespace

extern const GaussianKernels gaussian_kernels{gaussian_rows};

}  // namespace infall::INFALL_ISA
