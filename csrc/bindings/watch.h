// Lets a long call answer Ctrl-C and report progress.
#pragma once

#include <pybind11/pybind11.h>

#include "runtime/parallel.h"

namespace infall {

// Takes the GIL for each poll; what Python raises (KeyboardInterrupt, or an exception of the
// callback) stops the call.
class PythonWatch final : public Watch {
  public:
    explicit PythonWatch(pybind11::object progress) : progress_(std::move(progress)) {}

    void poll(int64_t done) override {
        const pybind11::gil_scoped_acquire gil;
        if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
        if (!progress_.is_none()) progress_(done);
    }

  private:
    pybind11::object progress_;
};

}  // namespace infall
