// Walsh-Hadamard transforms of any length, and the rotation Q of a Hadamard frame.
#pragma once

#include <cstdint>
#include <vector>

#include "frames/frames.h"
#include "frames/team.h"
#include "runtime/elements.h"

namespace infall {

template <class T>
const FrameKernelsOf<T>& frame_kernels_of() {
    return of_type<T>(frame_kernels());
}

// The unnormalised transform of length 2^log2_length; out may be x; signs as in the kernels.
template <class T>
void transform(const Team* team, const T* x, const uint32_t* signs, int log2_length, T* out);

class HadamardRotation {
  public:
    explicit HadamardRotation(const Frame& frame);

    // out (dim) = Q^T x, unnormalised.
    template <class T>
    void apply(const Team* team, const T* x, T* out) const;

    // out (dim) = factor Q v, v (dim) overwritten.
    template <class T>
    void apply_transposed(const Team* team, T* v, double factor, T* out) const;

  private:
    template <class T>
    void scale(const Team* team, const T* x, int round, int64_t first, int64_t end, double factor,
               T* out) const;

    int64_t dim_;
    HadamardShape shape_;
    std::vector<uint32_t> signs_[2];  // of the first window and what follows it; of the last window
};

// body(first, count) for parts of [0, total), in any order.
template <class Body>
void for_parts(const Team* team, int64_t total, const Body& body) {
    Team::run(team, (total + part_length - 1) / part_length, total, [&](int64_t part) {
        const int64_t first = part * part_length;
        body(first, std::min(part_length, total - first));
    });
}

}  // namespace infall
