// What the bindings of the CUDA twins share: device memory comes as integers.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "bindings/without_gil.h"
#include "classes/features.h"
#include "runtime/device.h"
#include "runtime/float_environment.h"

namespace infall {

using Pointer = uintptr_t;

template <class T>
T* as(Pointer p) {
    return reinterpret_cast<T*>(p);
}

// What kernels are launched in: their device is current, the constants they are given are computed
// in the floating-point environment of the host's kernels, and a queue that is full, which makes
// the launch wait, does not make others wait for the GIL.
class Launching {
  public:
    explicit Launching(int device) : on_(device) {}

  private:
    WithoutGil gil_;
    FloatEnvironment environment_;
    device::OnDevice on_;
};

// The size of a workspace, which a launch will compute again.
template <class... Arguments>
auto size_of(size_t (*size)(Arguments...)) {
    return [size](Arguments... arguments) {
        const FloatEnvironment environment;
        return size(arguments...);
    };
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
