// The GIL given up for a while, in a thread that may outlive the interpreter.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace infall {

// While the object lives the thread is without the GIL.
//
// A daemon thread may be at work when the interpreter ends, and then never gets the GIL back: older
// Pythons end a thread that asks for it, by unwinding its stack, newer ones let it sleep. Here it
// sleeps, before anything of Python is touched; the process ends without it.
class WithoutGil {
  public:
    WithoutGil() : ends_here_(interpreter_ends()), state_(PyEval_SaveThread()) {}
    ~WithoutGil() {
        if (is_lost()) sleep();
#if defined(__GLIBCXX__)
        try {
            PyEval_RestoreThread(state_);
        } catch (const abi::__forced_unwind&) {
            sleep();
        }
#else
        PyEval_RestoreThread(state_);
#endif
    }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

    // Whether the interpreter has ended. The thread that ends it keeps the GIL, for what it still
    // calls on its way out.
    bool is_lost() const { return !ends_here_ && interpreter_ends(); }

    // body() with the GIL. The thread may be ended in it, which unwinds the stack: objects of
    // Python must not be in the way.
    template <class Body>
    void retake(const Body& body) {
        PyEval_RestoreThread(state_);
        struct Release {
            WithoutGil& gil;
            ~Release() {
                if (!gil.is_lost()) gil.state_ = PyEval_SaveThread();
            }
        } const release{*this};
        body();
    }

  private:
    static bool interpreter_ends() {
#if PY_VERSION_HEX >= 0x030D0000
        return Py_IsFinalizing() != 0;
#else
        return _Py_IsFinalizing() != 0;
#endif
    }

    [[noreturn]] static void sleep() {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }

    bool ends_here_;
    PyThreadState* state_;
};

}  // namespace infall
