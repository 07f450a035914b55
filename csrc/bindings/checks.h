// What the kernels rest on beyond what the Python modules promise them: a slip here would be a
// crash there.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

namespace infall {

// Work is cut into blocks by the length of an axis, which must not be zero then.
inline void require_entries(pybind11::ssize_t length, const char* name) {
    if (length <= 0) throw pybind11::value_error(std::string(name) + " has an axis of length 0");
}

}  // namespace infall
