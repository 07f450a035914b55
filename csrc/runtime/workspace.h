// Arrays laid out one after the other in memory that the caller owns.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infall::device {

// Without memory the layout only tells how many bytes it takes.
class Layout {
  public:
    explicit Layout(void* memory = nullptr) : start_(reinterpret_cast<uintptr_t>(memory)) {}

    // Aligned to 16, as far as the memory is.
    template <class T>
    T* array(int64_t count) {
        const uintptr_t at = start_ + bytes_;
        bytes_ += (static_cast<size_t>(count) * sizeof(T) + 15) / 16 * 16;
        return reinterpret_cast<T*>(at);
    }
    size_t bytes() const { return bytes_; }

  private:
    uintptr_t start_;
    size_t bytes_ = 0;
};

}  // namespace infall::device
