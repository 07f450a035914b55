// How the CUDA twins are bound: pointers to device memory and streams come as integers, the Python
// modules own the memory behind them.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include "bindings/without_gil.h"
#include "classes/features.h"
#include "runtime/device.h"
#include "runtime/elements.h"
#include "runtime/float_environment.h"

namespace infall {

using Pointer = uintptr_t;
using device::Stream;

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

// An argument as Python gives it.
template <class T>
struct Given {
    using Type = T;
    static T taken(T argument) { return argument; }
};
template <class T>
struct Given<T*> {
    using Type = Pointer;
    static T* taken(Pointer argument) { return as<T>(argument); }
};
template <class T>
struct Given<const T&> : Given<T> {};
template <>
struct Given<ElementType> {
    using Type = std::string;
    static ElementType taken(const Type& dtype) {
        if (dtype == "float16") return ElementType::float16;
        if (dtype == "bfloat16") return ElementType::bfloat16;
        if (dtype == "float32") return ElementType::float32;
        if (dtype == "float64") return ElementType::float64;
        throw pybind11::type_error("dtype is '" + dtype + "'");
    }
};

// A structure, whose fields Python gives in a tuple.
template <class T, class... Fields>
struct GivenFields {
    using Type = std::tuple<typename Given<Fields>::Type...>;
    static T taken(const Type& fields) {
        return std::apply([](const auto&... field) { return T{Given<Fields>::taken(field)...}; },
                          fields);
    }
};
template <>
struct Given<FeatureRows> : GivenFields<FeatureRows, const void*, ElementType, int64_t, int64_t> {};

template <class... Parameters, size_t... i>
void def_launch(pybind11::module_& module, const char* name, void (*launch)(Parameters...),
                const char* const* names, std::index_sequence<i...>) {
    namespace py = pybind11;
    using Types = std::tuple<Parameters...>;
    module.def(
        name,
        [launch](typename Given<std::tuple_element_t<i, Types>>::Type... arguments,
                 int device_number, Pointer stream) {
            const Launching launching(device_number);
            launch(Given<std::tuple_element_t<i, Types>>::taken(arguments)..., as<void>(stream));
        },
        py::arg(names[i])..., py::arg("device"), py::arg("stream"));
}

// Binds launch(arguments ..., stream): Python gives the named arguments, a device and a stream.
template <class... Parameters, size_t count>
void def_launch(pybind11::module_& module, const char* name, void (*launch)(Parameters...),
                const char* const (&names)[count]) {
    static_assert(count + 1 == sizeof...(Parameters), "a name for each argument but the stream");
    def_launch(module, name, launch, names, std::make_index_sequence<count>());
}

// The size of a workspace, which a launch will compute again.
template <class... Arguments>
auto size_of(size_t (*size)(Arguments...)) {
    return [size](Arguments... arguments) {
        const FloatEnvironment environment;
        return size(arguments...);
    };
}

// body(zero of the type `name` states).
template <class Body>
void in_precision(const char* name, const std::string& dtype, const Body& body) {
    if (dtype == "float32")
        body(float{});
    else if (dtype == "float64")
        body(double{});
    else
        throw pybind11::type_error(name + (" is '" + dtype + "'"));
}

}  // namespace infall
