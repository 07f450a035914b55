// Simplex equiangular tight frames M = c Q C of K classes in R^dim: c = sqrt(K / (K - 1)), Q with
// orthonormal columns, and C the centring I - 11^T/K or, where dim = K - 1, the K - 1 rows of an
// orthonormal basis of its range (docs/frames.md).
#pragma once

#include <cmath>
#include <cstdint>

#include "frames/kernels.h"
#include "runtime/host_device.h"
#include "runtime/parallel.h"

namespace infall {

struct Frame {
    int64_t num_classes, dim;
    bool hadamard;  // Q of random signs and Walsh-Hadamard transforms, else of the unit vectors
    uint64_t seed;  // of the signs
    const double* norms;  // (num_classes,) lengths of the class vectors, or null: all one

    INFALL_HD bool tight() const { return dim < num_classes; }
    INFALL_HD int64_t coordinates() const { return tight() ? dim : num_classes; }  // columns of Q
};

// Q^T of a Hadamard frame, up to its normalisation: signs and an unnormalised transform of the
// first `window` coordinates and, where dim is no power of two, the same of the last ones.
// Coordinates that a transform leaves alone are multiplied by `left_alone`, as those are that it
// does not.
struct HadamardShape {
    int log2_window, rounds;
    int64_t window;

    explicit HadamardShape(int64_t dim) : log2_window(0) {
        while (dim >> log2_window > 1) ++log2_window;
        window = int64_t{1} << log2_window;
        rounds = window == dim ? 1 : 2;
    }
    double left_alone() const { return std::sqrt(static_cast<double>(window)); }
    double normalisation() const {
        return rounds == 1 ? 1.0 / std::sqrt(static_cast<double>(window))
                           : 1.0 / static_cast<double>(window);
    }
};

// With g the products of x and the columns of Q, up to their normalisation, and G their sum, the
// logits are factor norm (g_c - share G), and for the last class of a tight frame
// factor norm (0 - last_share G).
struct CentringLaw {
    double factor, share, last_share;

    explicit CentringLaw(const Frame& frame) {
        const double count = static_cast<double>(frame.num_classes), root = std::sqrt(count);
        factor = std::sqrt(count / (count - 1.0));
        if (frame.hadamard) factor *= HadamardShape(frame.dim).normalisation();
        share = frame.tight() ? 1.0 / (count + root) : 1.0 / count;
        last_share = frame.tight() ? 1.0 / root : 0.0;
    }
};

// A sample whose products leave the range of T; thrown for the first there is.
struct Overflow {
    int64_t sample;
};

// All that follows: T is float or double; x holds `count` vectors one after the other; progress is
// counted in vectors.

// out = factor times the Walsh-Hadamard transforms of length 2^log2_length; out may be x.
template <class T>
void walsh_hadamard(const T* x, int64_t count, int log2_length, double factor, int num_threads,
                    Watch* watch, T* out);

// out (count, num_classes) = M^T x for x (count, dim).
template <class T>
void project(const Frame& frame, const T* x, int64_t count, int num_threads, Watch* watch, T* out);

// out (count, dim) = M x for x (count, num_classes).
template <class T>
void synthesise(const Frame& frame, const T* x, int64_t count, int num_threads, Watch* watch,
                T* out);

// The `top` largest logits of each x (count, dim), descending, ties to the lower class: classes and
// values (count, top).
template <class T>
void top_logits(const Frame& frame, const T* x, int64_t count, int64_t top, int num_threads,
                Watch* watch, int64_t* classes, T* values);

// The same of given scores (count, columns); classes are their positions or, with labels
// (count, columns), what these say at the positions.
template <class T>
void top_scores(const T* scores, const int64_t* labels, int64_t count, int64_t columns, int64_t top,
                int num_threads, Watch* watch, int64_t* classes, T* values);

// The rows of x (count, dim), count <= dim, become orthonormal, each a combination of itself, by a
// positive factor, and of those before it: x^T = Q R with R's diagonal positive, and x = Q^T.
void orthonormalise_rows(double* x, int64_t count, int64_t dim, int num_threads, Watch* watch);

// x (count, dim): the vectors of a stored simplex frame of `count` classes, whose orthonormal
// columns are the Q of a Gaussian matrix with R's diagonal positive.
void haar_vectors(double* x, int64_t count, int64_t dim, uint64_t seed, int num_threads,
                  Watch* watch);

}  // namespace infall
