#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/watch.h"
#include "random/gaussian.h"
#include "rows/codes.h"
#include "rows/directions.h"
#include "rows/matrix.h"
#include "rows/rotation.h"
#include "rows/screen.h"
#include "rows/stream.h"

namespace py = pybind11;

namespace infall {
namespace {

// (rows int64 (B, found), projections float64 (B, found)); a selection may fall short of num_rows.
py::list as_arrays(const std::vector<Selection>& selections) {
    py::list result;
    for (const Selection& selection : selections) {
        Array<int64_t> rows(static_cast<py::ssize_t>(selection.size()));
        Array<double> projections(static_cast<py::ssize_t>(selection.size()));
        int64_t* row = rows.mutable_data();
        double* projection = projections.mutable_data();
        for (const Candidate& c : selection) {
            *row++ = c.row;
            *projection++ = c.projection;
        }
        result.append(py::make_tuple(rows, projections));
    }
    return result;
}

}  // namespace

void bind_rows(py::module_& module) {
    module.def("purposes", [] {
        py::list table;
        for (const Purpose& p : purposes)
            table.append(py::make_tuple(p.name, p.position_bits, p.first_block, p.num_blocks));
        return table;
    });

    const auto def_rows = [&](const char* name, RandomMatrix matrix) {
        module.def(
            name,
            [matrix](const Array<int64_t>& indices, Array<float>& out, uint64_t seed,
                     uint32_t layer, int num_threads, const py::object& progress) {
                require_entries(out.shape(1), "out");
                const GaussianLayer source{seed, layer, out.shape(1), matrix};
                float* target = out.mutable_data();
                compute(progress, [&](Watch* watch) {
                    gaussian_rows(source, indices.data(), indices.size(), num_threads, watch,
                                  target);
                });
            },
            py::arg("indices").noconvert(), py::arg("out").noconvert(), py::arg("seed"),
            py::arg("layer"), py::arg("num_threads"), py::arg("progress"));
    };
    def_rows("gaussian_rows", layer_rows);
    def_rows("haar_rows", haar_matrix);

    module.def(
        "select_stream",
        [](const Array<float>& w, int64_t dim, uint64_t seed, uint32_t layer, int64_t first_row,
           int64_t end_row, int64_t num_rows, bool absolute, float threshold, int num_threads,
           const py::object& progress, std::optional<bool> screened) {
            std::vector<Selection> found;
            compute(progress, [&](Watch* watch) {
                const SelectionTask task{first_row, end_row,     num_rows,
                                         absolute,  num_threads, watch};
                found = select_stream({seed, layer, dim}, task, w.data(), w.shape(0), threshold,
                                      screened);
            });
            return as_arrays(found);
        },
        py::arg("w").noconvert(), py::arg("dim"), py::arg("seed"), py::arg("layer"),
        py::arg("first_row"), py::arg("end_row"), py::arg("num_rows"), py::arg("absolute"),
        py::arg("threshold"), py::arg("num_threads"), py::arg("progress"),
        py::arg("screened") = py::none());

    // For the tests of the screen: its shape, pairs of words, and estimates with their margin.
    module.def("screen_shape", [] {
        const ScreenShape& shape = screen_kernels().shape;
        const AnglePolynomials polynomials = angle_polynomials(shape);
        const auto as_array = [&](const std::vector<double>& coefficients) {
            Array<double> array({shape.degree + 1, shape.pieces});
            std::copy(coefficients.begin(), coefficients.end(), array.mutable_data());
            return array;
        };
        return py::make_tuple(shape.angle_error, shape.pair_error, as_array(polynomials.a),
                              as_array(polynomials.b));
    });
    module.def(
        "screen_pairs",
        [](uint32_t first_word, int64_t count) {
            Array<float> radius(count), estimated_radius(count), a(count), b(count);
            float *radii = radius.mutable_data(), *estimates = estimated_radius.mutable_data();
            float *as = a.mutable_data(), *bs = b.mutable_data();
            compute(py::none(), [&](Watch*) {
                screen_kernels().radii(first_word, count, estimates);
                screen_kernels().pairs(first_word, count, radii, as, bs);
            });
            return py::make_tuple(radius, estimated_radius, a, b);
        },
        py::arg("first_word"), py::arg("count"));
    module.def(
        "screen_deviations",
        [](uint32_t first_word, int64_t count) {
            ScreenDeviations largest{};
            compute(py::none(), [&](Watch*) { largest = screen_deviations(first_word, count); });
            return py::make_tuple(largest.angle_error, largest.pair_error,
                                  largest.without_estimate);
        },
        py::arg("first_word"), py::arg("count"));
    module.def(
        "screen_estimates",
        [](const Array<float>& w, int64_t dim, uint64_t seed, uint32_t layer, int64_t first_row,
           int64_t rows) {
            Array<float> estimates(rows);
            float* scores = estimates.mutable_data();
            double margin = 0.0;
            compute(py::none(), [&](Watch*) {
                const WeightedBlocks weights(w.data(), 1, dim);
                const Screen screen(weights.of(0, 1));
                screen.estimate({seed, layer, dim}, first_row, rows, scores);
                margin = screen_margin(weights.of(0, 1));
            });
            return py::make_tuple(estimates, margin);
        },
        py::arg("w").noconvert(), py::arg("dim"), py::arg("seed"), py::arg("layer"),
        py::arg("first_row"), py::arg("rows"));

    module.def(
        "select_rotated",
        [](const Array<double>& factors, uint64_t seed, uint32_t layer, int64_t first_row,
           int64_t end_row, int64_t num_rows, bool absolute, double threshold, int num_threads,
           const py::object& progress) {
            std::vector<Selection> found;
            compute(progress, [&](Watch* watch) {
                const SelectionTask task{first_row, end_row,     num_rows,
                                         absolute,  num_threads, watch};
                found = select_rotated({seed, layer, 0}, task, factors.data(), factors.shape(0),
                                       factors.shape(1), threshold);
            });
            return as_arrays(found);
        },
        py::arg("factors").noconvert(), py::arg("seed"), py::arg("layer"), py::arg("first_row"),
        py::arg("end_row"), py::arg("num_rows"), py::arg("absolute"), py::arg("threshold"),
        py::arg("num_threads"), py::arg("progress"));

    module.def(
        "select_matrix",
        [](const py::array& weights, const py::array& w, int64_t num_rows, bool absolute,
           int num_threads, const py::object& progress) -> py::object {
            const bool is_float64 = weights.itemsize() == sizeof(double);
            const py::ssize_t size = is_float64 ? sizeof(double) : sizeof(float);
            const MatrixRows rows{weights.data(), weights.strides(0) / size,
                                  weights.strides(1) / size, weights.shape(1)};
            const int64_t count = weights.shape(0);
            std::vector<Selection> found;
            try {
                compute(progress, [&](Watch* watch) {
                    const SelectionTask task{0, count, num_rows, absolute, num_threads, watch};
                    found = select_matrix(rows, is_float64, task, w.data(), w.shape(0));
                });
            } catch (const NonFinite& where) {
                return py::int_(where.row);  // the caller finds the position and names it
            }
            return as_arrays(found);
        },
        py::arg("weights").noconvert(), py::arg("w").noconvert(), py::arg("num_rows"),
        py::arg("absolute"), py::arg("num_threads"), py::arg("progress"));

    module.def(
        "draw_order_statistics",
        [](int64_t num_rows, int64_t width, uint64_t seed, uint32_t layer) {
            Array<int64_t> rows(num_rows);
            Array<double> projections(num_rows);
            int64_t* row = rows.mutable_data();
            double* projection = projections.mutable_data();
            compute(py::none(), [&](Watch* watch) {
                draw_order_statistics({seed, layer, 0}, width, num_rows, row, projection, watch);
            });
            return py::make_tuple(rows, projections);
        },
        py::arg("num_rows"), py::arg("width"), py::arg("seed"), py::arg("layer"));

    module.def(
        "largest_folded_normals",
        [](Array<double>& exponentials, double width) {
            double* row = exponentials.mutable_data();
            const int64_t samples = exponentials.shape(0), count = exponentials.shape(1);
            compute(py::none(), [&](Watch* watch) {
                for (int64_t i = 0; i < samples; ++i, row += count)
                    largest_folded_normals(row, count, width, watch);
            });
        },
        py::arg("exponentials").noconvert(), py::arg("width"));

    module.def(
        "unit_vectors",
        [](const Array<double>& w) {
            const py::ssize_t batch = w.shape(0), dim = w.shape(1);
            Array<double> directions({batch, dim}), norms(batch);
            Array<int64_t> exponents(batch);
            double *directions_data = directions.mutable_data(), *norms_data = norms.mutable_data();
            int64_t* exponents_data = exponents.mutable_data();
            compute(py::none(), [&](Watch* watch) {
                unit_vectors(w.data(), batch, dim, directions_data, norms_data, exponents_data,
                             watch);
            });
            return py::make_tuple(directions, norms, exponents);
        },
        py::arg("w").noconvert());

    // None if one is not finite.
    module.def(
        "scaled_projections",
        [](const Array<double>& unit_projections, const Array<double>& norms,
           const Array<int64_t>& exponents) -> py::object {
            const py::ssize_t batch = unit_projections.shape(0), count = unit_projections.shape(1);
            Array<double> out({batch, count});
            double* products = out.mutable_data();
            bool finite = false;
            compute(py::none(), [&](Watch*) {
                finite = scale_projections(unit_projections.data(), norms.data(), exponents.data(),
                                           batch, count, products);
            });
            return finite ? py::object(out) : py::none();
        },
        py::arg("unit_projections").noconvert(), py::arg("norms").noconvert(),
        py::arg("exponents").noconvert());

    module.def(
        "householder",
        [](const Array<double>& w) {
            const py::ssize_t batch = w.shape(0), dim = w.shape(1), span = std::min(batch, dim);
            Array<double> v({span, dim}), scale(span), factors({span, batch});
            double *v_data = v.mutable_data(), *scale_data = scale.mutable_data();
            double* factors_data = factors.mutable_data();
            compute(py::none(), [&](Watch* watch) {
                householder(w.data(), batch, dim, v_data, scale_data, factors_data, watch);
            });
            return py::make_tuple(v, scale, factors);
        },
        py::arg("w").noconvert());

    module.def(
        "deciding_entries",
        [](const Array<int64_t>& rows, int64_t span, uint64_t seed, uint32_t layer,
           int num_threads) {
            require_entries(span, "span");
            Array<double> out(
                {static_cast<py::ssize_t>(rows.size()), static_cast<py::ssize_t>(span)});
            double* entries = out.mutable_data();
            compute(py::none(), [&](Watch* watch) {
                deciding_entries({seed, layer, 0}, rows.data(), rows.size(), span, num_threads,
                                 watch, entries);
            });
            return out;
        },
        py::arg("rows").noconvert(), py::arg("span"), py::arg("seed"), py::arg("layer"),
        py::arg("num_threads"));

    module.def(
        "rotate_rows",
        [](Array<float>& z, const Array<double>& deciding, const Array<double>& v,
           const Array<double>& scale, int num_threads, const py::object& progress) {
            require_entries(z.shape(1), "z");
            require_entries(v.shape(0), "v");
            float* rows = z.mutable_data();
            compute(progress, [&](Watch* watch) {
                rotate_rows(rows, z.shape(0), z.shape(1), deciding.data(), v.data(), scale.data(),
                            v.shape(0), num_threads, watch);
            });
        },
        py::arg("z").noconvert(), py::arg("deciding").noconvert(), py::arg("v").noconvert(),
        py::arg("scale").noconvert(), py::arg("num_threads"), py::arg("progress"));

    module.def(
        "multiply_in_order",
        [](const Array<float>& rows, const Array<double>& w, int num_threads) {
            const py::ssize_t count = rows.shape(0), dim = rows.shape(1);
            if (w.size() != dim) throw std::invalid_argument("w has another length than the rows");
            Array<double> out(count);
            double* products = out.mutable_data();
            compute(py::none(), [&](Watch* watch) {
                multiply_in_order(rows.data(), count, dim, w.data(), num_threads, watch, products);
            });
            return out;
        },
        py::arg("rows").noconvert(), py::arg("w").noconvert(), py::arg("num_threads"));

    module.def(
        "hyperplane_codes",
        [](const Array<float>& x, int64_t dim, int64_t num_bits, uint64_t seed,
           std::optional<uint32_t> layer, int num_threads, const py::object& progress) {
            const GaussianLayer planes{seed, layer.value_or(0), dim,
                                       layer ? layer_rows : hyperplanes};
            Array<uint8_t> out(
                {x.shape(0), static_cast<py::ssize_t>(num_bits / 8 + (num_bits % 8 != 0))});
            uint8_t* codes = out.mutable_data();
            compute(progress, [&](Watch* watch) {
                hyperplane_codes(planes, x.data(), x.shape(0), num_bits, num_threads, watch, codes);
            });
            return out;
        },
        py::arg("x").noconvert(), py::arg("dim"), py::arg("num_bits"), py::arg("seed"),
        py::arg("layer"), py::arg("num_threads"), py::arg("progress"));

    module.def(
        "hamming_distances",
        [](const Array<uint8_t>& a, const Array<uint8_t>& b, int num_threads,
           const py::object& progress) {
            Array<int32_t> out({a.shape(0), b.shape(0)});
            int32_t* distances = out.mutable_data();
            compute(progress, [&](Watch* watch) {
                hamming_distances(a.data(), a.shape(0), b.data(), b.shape(0), a.shape(1),
                                  num_threads, watch, distances);
            });
            return out;
        },
        py::arg("a").noconvert(), py::arg("b").noconvert(), py::arg("num_threads"),
        py::arg("progress"));
}

}  // namespace infall
