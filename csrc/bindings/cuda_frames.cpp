// The CUDA twins of the frame kernels for Python; see cuda.cpp.
#include <pybind11/pybind11.h>

#include <string>

#include "bindings/cuda.h"
#include "frames/device.h"

namespace py = pybind11;

namespace infall {
namespace {

// body(zero of the dtype).
template <class Body>
void with_type(const std::string& dtype, const Body& body) {
    if (dtype == "float32")
        body(float{});
    else if (dtype == "float64")
        body(double{});
    else
        throw py::type_error("dtype is '" + dtype + "'");
}

}  // namespace

void bind_cuda_frames(py::module_& module) {
    module.def(
        "frame_workspace",
        [](const std::string& dtype, int64_t num_classes, int64_t dim, bool hadamard,
           int64_t count) {
            const Frame frame{num_classes, dim, hadamard, 0, nullptr};
            return device::frame_workspace(frame, dtype == "float32" ? 4 : 8, count);
        },
        py::arg("dtype"), py::arg("num_classes"), py::arg("dim"), py::arg("hadamard"),
        py::arg("count"));

    module.def(
        "walsh_hadamard",
        [](const std::string& dtype, Pointer x, int64_t count, int log2_length, double factor,
           Pointer out, int device_number, Pointer stream) {
            const Launching launching(device_number);
            with_type(dtype, [&](auto zero) {
                using T = decltype(zero);
                device::walsh_hadamard(as<const T>(x), count, log2_length, factor, as<T>(out),
                                       as<void>(stream));
            });
        },
        py::arg("dtype"), py::arg("x"), py::arg("count"), py::arg("log2_length"), py::arg("factor"),
        py::arg("out"), py::arg("device"), py::arg("stream"));

    const auto def_product = [&](const char* name, auto run) {
        module.def(
            name,
            [run](const std::string& dtype, int64_t num_classes, int64_t dim, bool hadamard,
                  uint64_t seed, Pointer norms, Pointer x, int64_t count, Pointer out,
                  Pointer workspace, int device_number, Pointer stream) {
                const Launching launching(device_number);
                const Frame frame{num_classes, dim, hadamard, seed, as<const double>(norms)};
                with_type(dtype, [&](auto zero) {
                    using T = decltype(zero);
                    run(frame, as<const T>(x), count, as<T>(out), as<void>(workspace),
                        as<void>(stream));
                });
            },
            py::arg("dtype"), py::arg("num_classes"), py::arg("dim"), py::arg("hadamard"),
            py::arg("seed"), py::arg("norms"), py::arg("x"), py::arg("count"), py::arg("out"),
            py::arg("workspace"), py::arg("device"), py::arg("stream"));
    };
    def_product("frame_project", [](auto&&... arguments) { device::project(arguments...); });
    def_product("frame_synthesise", [](auto&&... arguments) { device::synthesise(arguments...); });

    module.def(
        "frame_top_logits",
        [](const std::string& dtype, int64_t num_classes, int64_t dim, bool hadamard, uint64_t seed,
           Pointer norms, Pointer x, int64_t count, int64_t top, Pointer classes, Pointer values,
           Pointer workspace, int device_number, Pointer stream) {
            const Launching launching(device_number);
            const Frame frame{num_classes, dim, hadamard, seed, as<const double>(norms)};
            with_type(dtype, [&](auto zero) {
                using T = decltype(zero);
                device::top_logits(frame, as<const T>(x), count, top, as<int64_t>(classes),
                                   as<T>(values), as<void>(workspace), as<void>(stream));
            });
        },
        py::arg("dtype"), py::arg("num_classes"), py::arg("dim"), py::arg("hadamard"),
        py::arg("seed"), py::arg("norms"), py::arg("x"), py::arg("count"), py::arg("top"),
        py::arg("classes"), py::arg("values"), py::arg("workspace"), py::arg("device"),
        py::arg("stream"));

    module.def(
        "top_scores",
        [](const std::string& dtype, Pointer scores, Pointer labels, int64_t count, int64_t columns,
           int64_t top, Pointer classes, Pointer values, int device_number, Pointer stream) {
            const Launching launching(device_number);
            with_type(dtype, [&](auto zero) {
                using T = decltype(zero);
                device::top_scores(as<const T>(scores), as<const int64_t>(labels), count, columns,
                                   top, as<int64_t>(classes), as<T>(values), as<void>(stream));
            });
        },
        py::arg("dtype"), py::arg("scores"), py::arg("labels"), py::arg("count"),
        py::arg("columns"), py::arg("top"), py::arg("classes"), py::arg("values"),
        py::arg("device"), py::arg("stream"));
}

}  // namespace infall
