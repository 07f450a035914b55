#include "frames/frames.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "bindings/arrays.h"
#include "bindings/watch.h"

namespace py = pybind11;

namespace infall {
namespace {

using Norms = std::optional<Array<double>>;

Frame frame_of(int64_t num_classes, int64_t dim, bool hadamard, uint64_t seed, const Norms& norms) {
    return {num_classes, dim, hadamard, seed, norms ? norms->data() : nullptr};
}

// Runs what may find a vector too long for its type: the number of one such, or None.
template <class Run>
py::object overflowed(const py::object& progress, const Run& run) {
    try {
        compute(progress, run);
    } catch (const Overflow& where) {
        return py::int_(where.sample);
    }
    return py::none();
}

// float32 and float64 functions of one name: Python's overload resolution chooses by the arrays.
template <class T>
void bind_type(py::module_& module) {
    module.def(
        "walsh_hadamard",
        [](const Array<T>& x, Array<T>& out, double factor, int num_threads,
           const py::object& progress) {
            require_entries(x.shape(1), "x");
            const T* from = x.data();
            T* to = out.mutable_data();
            compute(progress, [&](Watch* watch) {
                walsh_hadamard(from, x.shape(0), __builtin_ctzll(x.shape(1)), factor, num_threads,
                               watch, to);
            });
        },
        py::arg("x").noconvert(), py::arg("out").noconvert(), py::arg("factor"),
        py::arg("num_threads"), py::arg("progress"));

    module.def(
        "frame_project",
        [](const Array<T>& x, Array<T>& out, bool hadamard, uint64_t seed, const Norms& norms,
           int num_threads, const py::object& progress) {
            const Frame frame = frame_of(out.shape(1), x.shape(1), hadamard, seed, norms);
            T* to = out.mutable_data();
            return overflowed(progress, [&](Watch* watch) {
                project(frame, x.data(), x.shape(0), num_threads, watch, to);
            });
        },
        py::arg("x").noconvert(), py::arg("out").noconvert(), py::arg("hadamard"), py::arg("seed"),
        py::arg("norms").none(true), py::arg("num_threads"), py::arg("progress"));

    module.def(
        "frame_synthesise",
        [](const Array<T>& x, Array<T>& out, bool hadamard, uint64_t seed, const Norms& norms,
           int num_threads, const py::object& progress) {
            const Frame frame = frame_of(x.shape(1), out.shape(1), hadamard, seed, norms);
            T* to = out.mutable_data();
            return overflowed(progress, [&](Watch* watch) {
                synthesise(frame, x.data(), x.shape(0), num_threads, watch, to);
            });
        },
        py::arg("x").noconvert(), py::arg("out").noconvert(), py::arg("hadamard"), py::arg("seed"),
        py::arg("norms").none(true), py::arg("num_threads"), py::arg("progress"));

    module.def(
        "frame_top_logits",
        [](const Array<T>& x, Array<int64_t>& classes, Array<T>& values, int64_t num_classes,
           bool hadamard, uint64_t seed, const Norms& norms, int num_threads,
           const py::object& progress) {
            const Frame frame = frame_of(num_classes, x.shape(1), hadamard, seed, norms);
            int64_t* class_data = classes.mutable_data();
            T* value_data = values.mutable_data();
            return overflowed(progress, [&](Watch* watch) {
                top_logits(frame, x.data(), x.shape(0), classes.shape(1), num_threads, watch,
                           class_data, value_data);
            });
        },
        py::arg("x").noconvert(), py::arg("classes").noconvert(), py::arg("values").noconvert(),
        py::arg("num_classes"), py::arg("hadamard"), py::arg("seed"), py::arg("norms").none(true),
        py::arg("num_threads"), py::arg("progress"));

    module.def(
        "top_scores",
        [](const Array<T>& scores, const std::optional<Array<int64_t>>& labels,
           Array<int64_t>& classes, Array<T>& values, int num_threads, const py::object& progress) {
            require_entries(scores.shape(1), "scores");
            require_entries(classes.shape(1), "classes");
            const int64_t* label_data = labels ? labels->data() : nullptr;
            int64_t* class_data = classes.mutable_data();
            T* value_data = values.mutable_data();
            return overflowed(progress, [&](Watch* watch) {
                top_scores(scores.data(), label_data, scores.shape(0), scores.shape(1),
                           classes.shape(1), num_threads, watch, class_data, value_data);
            });
        },
        py::arg("scores").noconvert(), py::arg("labels").none(true), py::arg("classes").noconvert(),
        py::arg("values").noconvert(), py::arg("num_threads"), py::arg("progress"));
}

}  // namespace

void bind_frames(py::module_& module) {
    bind_type<float>(module);
    bind_type<double>(module);
    module.def(
        "haar_vectors",
        [](Array<double>& out, uint64_t seed, int num_threads, const py::object& progress) {
            require_entries(out.shape(1), "out");
            double* vectors = out.mutable_data();
            compute(progress, [&](Watch* watch) {
                haar_vectors(vectors, out.shape(0), out.shape(1), seed, num_threads, watch);
            });
        },
        py::arg("out").noconvert(), py::arg("seed"), py::arg("num_threads"), py::arg("progress"));
    module.def(
        "orthonormalise_rows",
        [](Array<double>& x, int num_threads, const py::object& progress) {
            require_entries(x.shape(1), "x");
            double* rows = x.mutable_data();
            compute(progress, [&](Watch* watch) {
                orthonormalise_rows(rows, x.shape(0), x.shape(1), num_threads, watch);
            });
        },
        py::arg("x").noconvert(), py::arg("num_threads"), py::arg("progress"));
}

}  // namespace infall
