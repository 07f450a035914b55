// The types of the numbers in arrays, and arrays of any of these.
#pragma once

#include <cstdint>
#include <type_traits>

#include "runtime/half.h"
#include "runtime/host_device.h"

namespace infall {

enum class ElementType { float16, bfloat16, float32, float64 };

// A number in the type it is computed with: binary64 for float64, binary32 for what is shorter.
INFALL_HD float widened(Float16 x) { return to_float(x); }
INFALL_HD float widened(BFloat16 x) { return to_float(x); }
INFALL_HD float widened(float x) { return x; }
INFALL_HD double widened(double x) { return x; }

template <class T>
INFALL_HD double to_double(T x) {
    return static_cast<double>(widened(x));
}

// work(data), data as a pointer to its elements. A source of kernels marks a `work` that is not
// local to it INFALL_LAMBDA_INLINE.
#if defined(__CUDACC__)
#pragma nv_exec_check_disable
#endif
template <class Work>
INFALL_HD auto with_elements(const void* data, ElementType type, const Work& work) {
    switch (type) {
        case ElementType::float16:
            return work(static_cast<const Float16*>(data));
        case ElementType::bfloat16:
            return work(static_cast<const BFloat16*>(data));
        case ElementType::float32:
            return work(static_cast<const float*>(data));
        default:
            return work(static_cast<const double*>(data));
    }
}

// The same where there are two types only; Void is void or const void.
#if defined(__CUDACC__)
#pragma nv_exec_check_disable
#endif
template <class Void, class Work>
INFALL_HD auto with_floats(Void* data, bool is_float64, const Work& work) {
    using Double = std::conditional_t<std::is_const_v<Void>, const double, double>;
    using Float = std::conditional_t<std::is_const_v<Void>, const float, float>;
    if (is_float64) return work(static_cast<Double*>(data));
    return work(static_cast<Float*>(data));
}

// Of a pair of tables, float32 and float64, the one for T.
template <class T, class Tables>
constexpr const auto& of_type(const Tables& tables) {
    if constexpr (std::is_same_v<T, float>)
        return tables.float32;
    else
        return tables.float64;
}

}  // namespace infall
