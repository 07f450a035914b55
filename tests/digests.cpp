// Prints digests of what the kernels of every family compute, one line per instruction set and
// family: tests/test_arm64.py compares those of two architectures. Inputs are made of the engine's
// own normals, results are hashed as they lie in memory.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "classes/decisions.h"
#include "classes/geometry.h"
#include "classes/moments.h"
#include "frames/frames.h"
#include "random/gaussian.h"
#include "rows/codes.h"
#include "rows/directions.h"
#include "rows/matrix.h"
#include "rows/rotation.h"
#include "rows/stream.h"
#include "runtime/isa.h"

using namespace infall;

namespace {

constexpr int num_threads = 2;

// FNV-1a.
class Digest {
  public:
    template <class T>
    Digest& add(const std::vector<T>& values) {
        const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
        for (size_t i = 0; i < values.size() * sizeof(T); ++i)
            hash_ = (hash_ ^ bytes[i]) * 0x100000001B3u;
        return *this;
    }
    void print(const char* family) const {
        std::printf("%s %s %016llx\n", current_isa().name, family,
                    static_cast<unsigned long long>(hash_));
    }

  private:
    uint64_t hash_ = 0xCBF29CE484222325u;
};

size_t size(int64_t count) { return static_cast<size_t>(count); }

std::vector<float> normals(int64_t count, int64_t dim, uint32_t layer = 0) {
    std::vector<int64_t> indices(size(count));
    for (int64_t i = 0; i < count; ++i) indices[size(i)] = i;
    std::vector<float> out(size(count * dim));
    gaussian_rows({7, layer, dim}, indices.data(), count, num_threads, nullptr, out.data());
    return out;
}

std::vector<double> widened(const std::vector<float>& x) { return {x.begin(), x.end()}; }

void add(Digest& digest, const std::vector<Selection>& selections) {
    for (const Selection& selection : selections)
        for (const Candidate& c : selection)
            digest.add(std::vector<double>{c.projection}).add(std::vector<int64_t>{c.row});
}

void random_rows() {
    Digest digest;
    for (const int64_t dim : {1, 3, 4, 7, 64, 257}) digest.add(normals(1000, dim, 3));
    digest.print("random");
}

void selections() {
    Digest digest;
    for (const int64_t dim : {4, 16, 60})
        for (const int64_t batch : {1, 3, 9}) {
            const SelectionTask task{5, 20005, 40, batch != 3, num_threads, nullptr};
            const std::vector<float> w = normals(batch, dim, 1);
            add(digest, select_stream({7, 2, dim}, task, w.data(), batch, -1e30f));
            if (batch == 1) {
                std::vector<float> unit = w;
                for (float& weight : unit) weight /= std::sqrt(static_cast<float>(dim));
                add(digest, select_stream({7, 2, dim}, task, unit.data(), 1, 1.5f, true));
            }

            const int64_t span = std::min(batch, dim);
            std::vector<double> v(size(span * dim)), scale(size(span)), factors(size(span * batch));
            householder(widened(w).data(), batch, dim, v.data(), scale.data(), factors.data(),
                        nullptr);
            digest.add(v).add(scale).add(factors);
            add(digest, select_rotated({7, 2, dim}, task, factors.data(), span, batch, 1.0));
            std::vector<float> z = normals(50, dim, 2);
            std::vector<int64_t> rows(50);
            for (int64_t i = 0; i < 50; ++i) rows[size(i)] = 3 * i + 1;
            std::vector<double> deciding(size(50 * span));
            deciding_entries({7, 2, dim}, rows.data(), 50, span, num_threads, nullptr,
                             deciding.data());
            rotate_rows(z.data(), 50, dim, deciding.data(), v.data(), scale.data(), span,
                        num_threads, nullptr);
            digest.add(deciding).add(z);

            const std::vector<float> matrix = normals(700, dim, 4);
            const std::vector<double> wide_matrix = widened(matrix), wide_w = widened(w);
            const SelectionTask few{0, 700, 20, true, num_threads, nullptr};
            add(digest, select_matrix({matrix.data(), dim, 1, dim}, false, few, w.data(), batch));
            add(digest,
                select_matrix({wide_matrix.data(), dim, 1, dim}, true, few, wide_w.data(), batch));
        }
    std::vector<int64_t> rows(300);
    std::vector<double> projections(300);
    draw_order_statistics({7, 2, 300}, int64_t{1} << 25, 300, rows.data(), projections.data(),
                          nullptr);
    digest.add(rows).add(projections).print("rows");
}

void codes() {
    Digest digest;
    const std::vector<float> x = normals(20, 36);
    std::vector<uint8_t> bits(20 * 25);
    hyperplane_codes({7, 0, 36, hyperplanes}, x.data(), 20, 197, num_threads, nullptr, bits.data());
    std::vector<int32_t> distances(20 * 20);
    hamming_distances(bits.data(), 20, bits.data(), 20, 25, num_threads, nullptr, distances.data());
    digest.add(bits).add(distances).print("codes");
}

void moments() {
    Digest digest;
    constexpr int64_t num_samples = 300, dim = 137, num_classes = 5;
    const std::vector<float> h = normals(num_samples, dim);
    const std::vector<double> wide = widened(h);
    std::vector<uint16_t> half(h.size());
    for (size_t i = 0; i < h.size(); ++i) {
        uint32_t word;
        std::memcpy(&word, &h[i], sizeof word);
        half[i] = static_cast<uint16_t>(word >> 16);
    }
    std::vector<int64_t> labels(num_samples);
    for (int64_t i = 0; i < num_samples; ++i) labels[size(i)] = i * i % num_classes;
    const FeatureRows all[] = {{h.data(), ElementType::float32, dim, dim},
                               {wide.data(), ElementType::float64, dim, dim},
                               {half.data(), ElementType::bfloat16, dim, dim}};
    for (const FeatureRows& features : all) {
        const bool is_float64 = features.type == ElementType::float64;
        std::vector<int64_t> counts(num_classes);
        std::vector<float> narrow_shifts(num_classes * dim);
        std::vector<double> wide_shifts(num_classes * dim), sums(num_classes * dim),
            squares(num_classes);
        const ClassShifts shifts{is_float64 ? static_cast<void*>(wide_shifts.data())
                                            : static_cast<void*>(narrow_shifts.data()),
                                 is_float64};
        const ClassState state{num_classes, counts.data(), shifts, sums.data(), squares.data()};
        MomentsUpdate update(state, dim);
        update.add(features, num_samples, labels.data(), num_threads, nullptr);
        update.publish(num_threads);
        std::vector<double> x(num_samples * dim), scatter(dim * dim), means(num_classes * dim),
            square_offsets(num_classes), norms(num_samples);
        deviations(features, num_samples, labels.data(), shifts, num_threads, nullptr, x.data());
        accumulate_scatter(x.data(), num_samples, dim, num_threads, nullptr, scatter.data());
        const std::vector<double> centre(dim, 0.25), directions = widened(normals(dim, 7, 1));
        class_means(state, dim, centre.data(), num_threads, nullptr, means.data(),
                    square_offsets.data());
        std::vector<double> offsets(num_classes * 7);
        project_rows(sums.data(), num_classes, dim, directions.data(), 7, num_threads, nullptr,
                     offsets.data());
        projected_square_norms(features, num_samples, labels.data(), shifts, offsets.data(),
                               directions.data(), 7, num_threads, nullptr, norms.data());
        digest.add(counts).add(sums).add(squares).add(x).add(scatter).add(means);
        digest.add(square_offsets).add(norms);
    }
    digest.print("moments");
}

void geometry() {
    Digest digest;
    constexpr int64_t classes = 410, dim = 33;
    const std::vector<double> means = widened(normals(classes, dim)), variances(classes, 1.5);
    std::vector<double> totals[8];
    for (auto& total : totals) total.resize(classes);
    std::vector<int64_t> cdnv_argmax(classes), excess_argmax(classes);
    pair_geometry(means.data(), variances.data(), classes, dim, num_threads, nullptr,
                  {totals[0].data(), totals[1].data(), totals[2].data(), totals[3].data(),
                   totals[4].data(), totals[5].data(), totals[6].data(), totals[7].data(),
                   cdnv_argmax.data(), excess_argmax.data()});
    for (const auto& total : totals) digest.add(total);
    std::vector<double> block(20 * classes);
    cdnv_block(means.data(), variances.data(), classes, dim, 300, 320, num_threads, nullptr,
               block.data());
    digest.add(cdnv_argmax).add(excess_argmax).add(block).print("geometry");
}

template <class Number>
void decisions(Digest& digest) {
    constexpr int64_t count = 90, classes = 70, dim = 30;
    const std::vector<float> h = normals(count, dim), m = normals(classes, dim, 1);
    const FeatureRows samples{h.data(), ElementType::float32, dim, dim};
    const std::vector<double> centre(dim, 0.5);
    std::vector<Number> x(count * dim);
    std::vector<double> square_norms(count);
    centre_rows(samples, 0, count, centre.data(), 0.5, num_threads, nullptr, x.data(),
                square_norms.data());
    // Given products, so that no BLAS takes part.
    const std::vector<float> given = normals(count, classes, 2);
    const std::vector<Number> products(given.begin(), given.end()), factors(count, Number(1)),
        term(classes, Number(0.25)), norm(classes, Number(0.125)), slack(classes, Number(0.5));
    std::vector<Number> low(count, Number(-1e30)), high(low), second(low);
    std::vector<int64_t> candidate(count, -1), numbers(count), best(count, -1);
    const ScoreBounds<Number> bounds{term.data(), norm.data(), slack.data()};
    reduce_scores(products.data(), count, classes, 0, factors.data(), bounds, num_threads, nullptr,
                  RowBests<Number>{low.data(), high.data(), second.data(), candidate.data()});
    for (int64_t i = 0; i < count; ++i) numbers[size(i)] = i;
    std::vector<double> scores(count, -1e300);
    const ExactScores exact{samples, {m.data(), ElementType::float32, dim, dim}, 0.5, nullptr};
    decide(products.data(), count, classes, 0, factors.data(), bounds, low.data(), numbers.data(),
           exact, num_threads, nullptr, scores.data(), best.data());
    digest.add(x).add(square_norms).add(low).add(high).add(second).add(candidate);
    digest.add(scores).add(best);
}

template <class T>
void frames(Digest& digest) {
    for (const bool hadamard : {false, true})
        for (const int64_t dim : {63, 64, 100}) {
            const int64_t count = 11;
            const std::vector<float> given = normals(count, dim), scores = normals(count, 64, 1);
            const std::vector<T> h(given.begin(), given.end()), y(scores.begin(), scores.end());
            const Frame frame{64, dim, hadamard, 9, nullptr};
            std::vector<T> logits(size(count * 64)), vectors(size(count * dim)), top(count * 5);
            std::vector<int64_t> classes(count * 5);
            project(frame, h.data(), count, num_threads, nullptr, logits.data());
            synthesise(frame, y.data(), count, num_threads, nullptr, vectors.data());
            top_logits(frame, h.data(), count, 5, num_threads, nullptr, classes.data(), top.data());
            digest.add(logits).add(vectors).add(classes).add(top);
            top_scores(y.data(), nullptr, count, 64, 5, num_threads, nullptr, classes.data(),
                       top.data());
            digest.add(classes).add(top);
        }
}

}  // namespace

int main() {
    std::vector<std::string> names;
    for (const Isa& isa : available_isas()) names.emplace_back(isa.name);
    for (const std::string& name : names) {
        set_isa(name);
        random_rows();
        selections();
        codes();
        moments();
        geometry();
        Digest decided;
        decisions<float>(decided);
        decisions<double>(decided);
        decided.print("decisions");
        Digest framed;
        frames<float>(framed);
        frames<double>(framed);
        std::vector<double> q = widened(normals(20, 45));
        orthonormalise_rows(q.data(), 20, 45, num_threads, nullptr);
        framed.add(q).print("frames");
    }
}
