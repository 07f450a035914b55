// The floating-point environment every result is defined in: rounding to nearest, subnormal numbers
// kept, no traps. A caller's own may be another: whatever is linked with -ffast-math sets it.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <cfenv>
#endif

#include <cstdint>

namespace infall {

// Sets the environment of the calling thread, and the one before again in the end.
class FloatEnvironment {
  public:
#if defined(__x86_64__)
    using Control = uint32_t;  // MXCSR
    static constexpr Control standard = 0x1F80;
#elif defined(__aarch64__)
    using Control = uint64_t;  // FPCR
    static constexpr Control standard = 0;
#else
    using Control = fenv_t;
    static inline const Control standard = *FE_DFL_ENV;
#endif

    explicit FloatEnvironment(const Control& control = standard) : before_(read()) {
        write(control);
    }
    ~FloatEnvironment() { write(before_); }
    FloatEnvironment(const FloatEnvironment&) = delete;
    FloatEnvironment& operator=(const FloatEnvironment&) = delete;

    const Control& before() const { return before_; }

  private:
    static Control read() {
#if defined(__x86_64__)
        return _mm_getcsr();
#elif defined(__aarch64__)
        Control control;
        asm volatile("mrs %0, fpcr" : "=r"(control));
        return control;
#else
        Control control;
        fegetenv(&control);
        return control;
#endif
    }

    static void write(const Control& control) {
#if defined(__x86_64__)
        _mm_setcsr(control);
#elif defined(__aarch64__)
        asm volatile("msr fpcr, %0" : : "r"(control) : "memory");
#else
        fesetenv(&control);
#endif
    }

    Control before_;
};

}  // namespace infall
