// What the bindings of the CUDA twins share: device memory comes as integers.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace infall {

using Pointer = uintptr_t;

template <class T>
T* as(Pointer p) {
    return reinterpret_cast<T*>(p);
}

void bind_cuda_geometry(pybind11::module_& module);
void bind_cuda_moments(pybind11::module_& module);

}  // namespace infall
