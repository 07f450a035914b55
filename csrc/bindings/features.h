// Features in NumPy arrays.
#pragma once

#include <pybind11/numpy.h>

#include "classes/features.h"

namespace infall {

// bfloat16, which NumPy does not have, comes as uint16.
inline FeatureRows rows_of(const pybind11::array& features) {
    const pybind11::dtype dtype = features.dtype();
    const FeatureType type = dtype.kind() == 'u'     ? FeatureType::bfloat16
                             : dtype.itemsize() == 2 ? FeatureType::float16
                             : dtype.itemsize() == 4 ? FeatureType::float32
                                                     : FeatureType::float64;
    return {features.data(), type, features.strides(0) / dtype.itemsize(), features.shape(1)};
}

}  // namespace infall
