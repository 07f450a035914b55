// The CUDA twins of frames.h. Every call is asynchronous on `stream` of the current device,
// allocates nothing and reads no result; pointers, those of the frame too, are device memory. A
// failed launch throws. Values are taken as they are: what overflows gives infinity and NaN.
#pragma once

#include <cstddef>
#include <cstdint>

#include "frames/frames.h"
#include "runtime/device.h"
#include "runtime/workspace.h"

namespace infall::device {

// Bytes that project, synthesise and, for `top` logits, top_logits work in for `count` vectors,
// aligned to 16.
template <class T>
size_t frame_workspace(const Frame& frame, int64_t count, int64_t top);

// The same of top_scores.
template <class T>
size_t scores_workspace(int64_t count, int64_t columns, int64_t top);

template <class T>
void walsh_hadamard(const T* x, int64_t count, int log2_length, double factor, T* out,
                    Stream stream);

template <class T>
void project(const Frame& frame, const T* x, int64_t count, T* out, void* workspace, Stream stream);

template <class T>
void synthesise(const Frame& frame, const T* x, int64_t count, T* out, void* workspace,
                Stream stream);

// NaN is passed over: where no other logits are left the class is -1 and the value NaN.
template <class T>
void top_logits(const Frame& frame, const T* x, int64_t count, int64_t top, int64_t* classes,
                T* values, void* workspace, Stream stream);

template <class T>
void top_scores(const T* scores, const int64_t* labels, int64_t count, int64_t columns, int64_t top,
                int64_t* classes, T* values, void* workspace, Stream stream);

// The rotation Q of a Hadamard frame, with its signs in the memory of a layout.
class HadamardRotation {
  public:
    HadamardRotation(const Frame& frame, Layout& layout);

    void make_signs(Stream stream) const;

    // out (count, dim) = Q^T x, unnormalised; after make_signs.
    template <class T>
    void apply(const T* x, int64_t count, T* out, Stream stream) const;

    // out (count, dim) = factor Q v, v (count, dim) overwritten; after make_signs.
    template <class T>
    void apply_transposed(T* v, int64_t count, double factor, T* out, Stream stream) const;

  private:
    int64_t dim_;
    uint64_t seed_;
    HadamardShape shape_;
    uint32_t* signs_[2];  // of the first window and what follows it; of the last window
};

}  // namespace infall::device
