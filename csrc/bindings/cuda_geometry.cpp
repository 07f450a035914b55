// The CUDA twins of the class kernels for Python; pointers and streams come as integers.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>

#include "bindings/cuda.h"
#include "classes/device.h"

namespace py = pybind11;

namespace infall {
namespace {

device::RowBounds row_bounds_of(const std::array<double, 6>& b) {
    return {b[0], b[1], b[2], b[3], b[4], b[5]};
}

template <class Number>
RowBests<Number> bests_of(const std::array<Pointer, 4>& bests) {
    return {as<Number>(bests[0]), as<Number>(bests[1]), as<Number>(bests[2]),
            as<int64_t>(bests[3])};
}

// `call` with a float or a double for what the products are in.
template <class Call>
void in_precision(const std::string& precision, const Call& call) {
    if (precision == "float32")
        call(float{});
    else if (precision == "float64")
        call(double{});
    else
        throw py::type_error("precision is '" + precision + "'");
}

}  // namespace

void bind_cuda_geometry(py::module_& module) {
    module.def("geometry_workspace", &device::geometry_workspace, py::arg("classes"));

    module.def(
        "pair_geometry",
        [](Pointer means, Pointer variances, Pointer extremes, int64_t classes, int64_t dim,
           Pointer workspace, std::array<Pointer, 10> totals, int device_number, Pointer stream) {
            const Launching launching(device_number);
            const PairTotals out{as<double>(totals[0]),  as<double>(totals[1]),
                                 as<double>(totals[3]),  as<double>(totals[4]),
                                 as<double>(totals[5]),  as<double>(totals[6]),
                                 as<double>(totals[8]),  as<double>(totals[9]),
                                 as<int64_t>(totals[2]), as<int64_t>(totals[7])};
            device::pair_geometry(as<const double>(means), as<const double>(variances),
                                  as<const double>(extremes), classes, dim, as<void>(workspace),
                                  out, as<void>(stream));
        },
        py::arg("means"), py::arg("variances"), py::arg("extremes"), py::arg("classes"),
        py::arg("dim"), py::arg("workspace"), py::arg("totals"), py::arg("device"),
        py::arg("stream"));

    module.def(
        "cdnv_block",
        [](Pointer means, Pointer variances, Pointer extremes, int64_t classes, int64_t dim,
           int64_t first_class, int64_t end_class, Pointer workspace, Pointer out,
           int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::cdnv_block(as<const double>(means), as<const double>(variances),
                               as<const double>(extremes), classes, dim, first_class, end_class,
                               as<void>(workspace), as<double>(out), as<void>(stream));
        },
        py::arg("means"), py::arg("variances"), py::arg("extremes"), py::arg("classes"),
        py::arg("dim"), py::arg("first_class"), py::arg("end_class"), py::arg("workspace"),
        py::arg("out"), py::arg("device"), py::arg("stream"));

    module.def(
        "centre_samples",
        [](const std::string& precision, Pointer rows, const std::string& dtype, int64_t stride,
           int64_t dim, int64_t first, int64_t count, Pointer centre, double scale, Pointer out,
           Pointer norms, int device_number, Pointer stream) {
            const Launching launching(device_number);
            in_precision(precision, [&](auto number) {
                device::centre_samples(rows_of(rows, dtype, stride, dim), first, count,
                                       as<const double>(centre), scale, as<decltype(number)>(out),
                                       as<double>(norms), as<void>(stream));
            });
        },
        py::arg("precision"), py::arg("rows"), py::arg("dtype"), py::arg("stride"), py::arg("dim"),
        py::arg("first"), py::arg("count"), py::arg("centre"), py::arg("scale"), py::arg("out"),
        py::arg("norms"), py::arg("device"), py::arg("stream"));

    module.def(
        "reduce_scores",
        [](const std::string& precision, Pointer products, int64_t count, int64_t classes,
           int64_t first_class, Pointer norms, std::array<double, 6> row_bounds,
           std::array<Pointer, 3> bounds, std::array<Pointer, 4> bests, int device_number,
           Pointer stream) {
            const Launching launching(device_number);
            in_precision(precision, [&](auto number) {
                using Number = decltype(number);
                const ScoreBounds<Number> of_classes{as<const Number>(bounds[0]),
                                                     as<const Number>(bounds[1]),
                                                     as<const Number>(bounds[2])};
                device::reduce_scores(as<const Number>(products), count, classes, first_class,
                                      as<const double>(norms), row_bounds_of(row_bounds),
                                      of_classes, bests_of<Number>(bests), as<void>(stream));
            });
        },
        py::arg("precision"), py::arg("products"), py::arg("count"), py::arg("classes"),
        py::arg("first_class"), py::arg("norms"), py::arg("row_bounds"), py::arg("bounds"),
        py::arg("bests"), py::arg("device"), py::arg("stream"));

    module.def(
        "decide_samples",
        [](const std::string& precision, Pointer rows, const std::string& dtype, int64_t stride,
           int64_t dim, int64_t first, int64_t count, Pointer norms,
           std::array<double, 6> row_bounds, std::array<Pointer, 4> bests, Pointer class_rows,
           const std::string& class_dtype, int64_t classes, double scale, Pointer bias,
           Pointer decisions, int device_number, Pointer stream) {
            const Launching launching(device_number);
            const ExactScores exact{rows_of(rows, dtype, stride, dim),
                                    rows_of(class_rows, class_dtype, dim, dim), scale,
                                    as<const double>(bias)};
            in_precision(precision, [&](auto number) {
                device::decide_samples(first, count, classes, as<const double>(norms),
                                       row_bounds_of(row_bounds), bests_of<decltype(number)>(bests),
                                       exact, as<int64_t>(decisions), as<void>(stream));
            });
        },
        py::arg("precision"), py::arg("rows"), py::arg("dtype"), py::arg("stride"), py::arg("dim"),
        py::arg("first"), py::arg("count"), py::arg("norms"), py::arg("row_bounds"),
        py::arg("bests"), py::arg("class_rows"), py::arg("class_dtype"), py::arg("classes"),
        py::arg("scale"), py::arg("bias"), py::arg("decisions"), py::arg("device"),
        py::arg("stream"));
}

}  // namespace infall
