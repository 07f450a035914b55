// Arrays of NumPy's, as the kernels take them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "classes/features.h"

namespace infall {

template <class T>
using Array = pybind11::array_t<T, pybind11::array::c_style>;

// Work is cut into blocks by the length of an axis, which must not be zero then. The Python modules
// see to it; a slip there would be a crash here.
inline void require_entries(pybind11::ssize_t length, const char* name) {
    if (length <= 0) throw pybind11::value_error(std::string(name) + " has an axis of length 0");
}

// bfloat16, which NumPy does not have, comes as uint16.
inline FeatureRows rows_of(const pybind11::array& features) {
    const pybind11::dtype dtype = features.dtype();
    const ElementType type = dtype.kind() == 'u'     ? ElementType::bfloat16
                             : dtype.itemsize() == 2 ? ElementType::float16
                             : dtype.itemsize() == 4 ? ElementType::float32
                                                     : ElementType::float64;
    return {features.data(), type, features.strides(0) / dtype.itemsize(), features.shape(1)};
}

}  // namespace infall
