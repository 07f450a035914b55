// Memory for intermediate results.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace infall {

// Uninitialised memory for a thread's work, in large pages where the system has them.
template <class T>
class Scratch {
  public:
    T* of_length(int64_t length) {
        if (length > length_) {
            constexpr size_t page = size_t{1} << 21;
            const size_t bytes = static_cast<size_t>(length) * sizeof(T);
            const bool large = bytes >= page;
            const size_t alignment = large ? page : 64;
            length_ = 0;
            memory_.reset(static_cast<T*>(
                std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)));
            if (!memory_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
            if (large) madvise(memory_.get(), bytes, MADV_HUGEPAGE);
#endif
            length_ = length;
        }
        return memory_.get();
    }

  private:
    struct Free {
        void operator()(T* p) const { std::free(p); }
    };
    std::unique_ptr<T[], Free> memory_;
    int64_t length_ = 0;
};

}  // namespace infall
