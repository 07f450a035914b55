#include <pybind11/pybind11.h>

#include <string>

#include "bindings/cuda.h"
#include "frames/device.h"

namespace py = pybind11;

namespace infall {

template <>
struct Given<Frame> : GivenFields<Frame, int64_t, int64_t, bool, uint64_t, const double*> {};

namespace {

// project (x (count, dim) to out (count, num_classes)) or synthesise (the other way).
template <bool projects>
void multiply(const std::string& dtype, Frame frame, const void* x, int64_t count, void* out,
              void* workspace, Stream stream) {
    in_precision("dtype", dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* from = static_cast<const T*>(x);
        if constexpr (projects)
            device::project(frame, from, count, static_cast<T*>(out), workspace, stream);
        else
            device::synthesise(frame, from, count, static_cast<T*>(out), workspace, stream);
    });
}

}  // namespace

void bind_cuda_frames(py::module_& module) {
    module.def(
        "frame_workspace",
        [](const std::string& dtype, const Given<Frame>::Type& frame, int64_t count, int64_t top) {
            size_t bytes;
            in_precision("dtype", dtype, [&](auto zero) {
                bytes =
                    device::frame_workspace<decltype(zero)>(Given<Frame>::taken(frame), count, top);
            });
            return bytes;
        },
        py::arg("dtype"), py::arg("frame"), py::arg("count"), py::arg("top"));
    module.def(
        "scores_workspace",
        [](const std::string& dtype, int64_t count, int64_t columns, int64_t top) {
            size_t bytes;
            in_precision("dtype", dtype, [&](auto zero) {
                bytes = device::scores_workspace<decltype(zero)>(count, columns, top);
            });
            return bytes;
        },
        py::arg("dtype"), py::arg("count"), py::arg("columns"), py::arg("top"));

    def_launch(module, "walsh_hadamard",
               +[](const std::string& dtype, const void* x, int64_t count, int log2_length,
                   double factor, void* out, Stream stream) {
                   in_precision("dtype", dtype, [&](auto zero) {
                       using T = decltype(zero);
                       device::walsh_hadamard(static_cast<const T*>(x), count, log2_length, factor,
                                              static_cast<T*>(out), stream);
                   });
               },
               {"dtype", "x", "count", "log2_length", "factor", "out"});

    def_launch(module, "frame_project", multiply<true>,
               {"dtype", "frame", "x", "count", "out", "workspace"});
    def_launch(module, "frame_synthesise", multiply<false>,
               {"dtype", "frame", "x", "count", "out", "workspace"});

    def_launch(module, "frame_top_logits",
               +[](const std::string& dtype, Frame frame, const void* x, int64_t count, int64_t top,
                   int64_t* classes, void* values, void* workspace, Stream stream) {
                   in_precision("dtype", dtype, [&](auto zero) {
                       using T = decltype(zero);
                       device::top_logits(frame, static_cast<const T*>(x), count, top, classes,
                                          static_cast<T*>(values), workspace, stream);
                   });
               },
               {"dtype", "frame", "x", "count", "top", "classes", "values", "workspace"});

    def_launch(
        module, "top_scores",
        +[](const std::string& dtype, const void* scores, const int64_t* labels, int64_t count,
            int64_t columns, int64_t top, int64_t* classes, void* values, void* workspace,
            Stream stream) {
            in_precision("dtype", dtype, [&](auto zero) {
                using T = decltype(zero);
                device::top_scores(static_cast<const T*>(scores), labels, count, columns, top,
                                   classes, static_cast<T*>(values), workspace, stream);
            });
        },
        {"dtype", "scores", "labels", "count", "columns", "top", "classes", "values", "workspace"});
}

}  // namespace infall
