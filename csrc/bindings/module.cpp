#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "runtime/float_environment.h"
#include "runtime/isa.h"

namespace py = pybind11;

namespace infall {

namespace {

// For arithmetic of NumPy's that results rest on; entered and left by one thread.
class FloatEnvironmentContext {
  public:
    void enter() { environment_.emplace(); }
    void exit(const py::args&) { environment_.reset(); }

  private:
    std::optional<FloatEnvironment> environment_;
};

}  // namespace

void bind_frames(py::module_& module);
void bind_moments(py::module_& module);
void bind_rows(py::module_& module);
void bind_decisions(py::module_& module);
void bind_geometry(py::module_& module);

}  // namespace infall

// Not py::mod_gil_not_used(): nothing here is shared between calls but the instruction set, which
// is atomic, but the Python modules above have never been tested without the GIL. A free-threaded
// interpreter takes it for their sake.
PYBIND11_MODULE(_core, module) {
    module.doc() = "The compiled kernels of infall. Arguments are checked by the Python modules.";
    module.attr("__version__") = INFALL_VERSION;
    module.attr("without_cuda") = INFALL_WITHOUT_CUDA;
    infall::current_isa();  // an unusable INFALL_ISA is refused at import
    module.def("isa", [] { return std::string(infall::current_isa().name); });
    module.def("set_isa", &infall::set_isa, py::arg("name"));
    module.def("available_isas", [] {
        std::vector<std::string> names;
        for (const infall::Isa& isa : infall::available_isas()) names.emplace_back(isa.name);
        return names;
    });
    py::class_<infall::FloatEnvironmentContext>(module, "FloatEnvironment")
        .def(py::init<>())
        .def("__enter__", &infall::FloatEnvironmentContext::enter)
        .def("__exit__", &infall::FloatEnvironmentContext::exit);
    infall::bind_frames(module);
    infall::bind_moments(module);
    infall::bind_rows(module);
    infall::bind_geometry(module);
    infall::bind_decisions(module);
}
