// What the bindings of the CUDA twins share: device memory comes as integers.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "classes/features.h"

namespace infall {

using Pointer = uintptr_t;

template <class T>
T* as(Pointer p) {
    return reinterpret_cast<T*>(p);
}

inline FeatureRows rows_of(Pointer features, const std::string& dtype, int64_t stride,
                           int64_t dim) {
    const FeatureType type = dtype == "float16"    ? FeatureType::float16
                             : dtype == "bfloat16" ? FeatureType::bfloat16
                             : dtype == "float32"  ? FeatureType::float32
                                                   : FeatureType::float64;
    return {as<const void>(features), type, stride, dim};
}

void bind_cuda_frames(pybind11::module_& module);
void bind_cuda_geometry(pybind11::module_& module);
void bind_cuda_moments(pybind11::module_& module);

}  // namespace infall
