// How Python calls the kernels: without the GIL, in the floating-point environment they need, and
// so that a long call answers Ctrl-C and reports progress.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>

#include "bindings/without_gil.h"
#include "runtime/float_environment.h"
#include "runtime/parallel.h"

namespace infall {

class Computation final : public Watch {
  public:
    explicit Computation(pybind11::handle progress) : progress_(progress) {}

    // Every 50 ms at most, for taking the GIL costs 5 ms beside a busy thread. What Python raises
    // (KeyboardInterrupt, or an exception of the callback) stops the call.
    void poll(int64_t done) override {
        constexpr auto interval = std::chrono::milliseconds(50);
        done_ = done;
        if (Clock::now() - last_answer_ < interval) return;
        if (gil_.is_lost()) throw Abandoned{};
        {
            const FloatEnvironment callers(environment_.before());
            gil_.retake([&] {
                if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
                if (progress_.is_none()) return;
                PyObject* result =
                    PyObject_CallFunction(progress_.ptr(), "L", static_cast<long long>(done));
                if (!result) throw pybind11::error_already_set();
                Py_DECREF(result);
            });
        }
        last_answer_ = Clock::now();
    }

    int64_t done() const { return done_; }

  private:
    using Clock = std::chrono::steady_clock;

    struct Abandoned {};  // on its way to where the thread sleeps

    pybind11::handle progress_;
    WithoutGil gil_;
    FloatEnvironment environment_;
    Clock::time_point last_answer_ = Clock::now();
    int64_t done_ = 0;
};

// Apart, so that no arithmetic is moved past a change of the floating-point environment.
template <class Run>
[[gnu::noinline]] void run_apart(const Run& run, Watch* watch) {
    run(watch);
}

// run(watch), which must touch nothing of Python; then progress(done), once for all.
template <class Run>
void compute(const pybind11::object& progress, const Run& run) {
    int64_t done;
    {
        Computation computation(progress);
        run_apart(run, &computation);
        done = computation.done();
    }
    if (!progress.is_none()) progress(done);
}

}  // namespace infall
