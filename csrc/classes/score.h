// What is computed of one sample and one class: one source for host and device.
#pragma once

#include <cstdint>

#include "runtime/host_device.h"

namespace infall {

enum class FloatType { float16, bfloat16, float32, float64 };

// Rows of a matrix, each in one piece.
struct FloatRows {
    const void* data;
    FloatType type;
    int64_t stride;  // elements from one row to the next
    int64_t dim;
};

// Scores of a block of classes: score = product + term[c], right to
// row_factor norm[c] + slack[c] and what is the same for all classes of a row.
template <class Number>
struct ScoreBounds {
    const Number *term, *norm, *slack;  // (classes,)

    INFALL_HD void of(Number product, Number row_factor, int64_t c, Number& low,
                      Number& high) const {
        const Number score = product + term[c], error = row_factor * norm[c] + slack[c];
        low = score - error;
        high = score + error;
    }
};

// Per row, over the classes seen so far: the largest lower bound, the two largest upper bounds, and
// the class of the largest. If second < low there is one candidate only.
template <class Number>
struct RowBests {
    Number *low, *high, *second;  // (rows,)
    int64_t* candidate;           // (rows,)
};

}  // namespace infall
