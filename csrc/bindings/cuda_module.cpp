#include <pybind11/pybind11.h>

#include <string>

#include "runtime/device.h"

namespace py = pybind11;

namespace infall {

void bind_cuda_decisions(py::module_& module);
void bind_cuda_frames(py::module_& module);
void bind_cuda_geometry(py::module_& module);
void bind_cuda_moments(py::module_& module);
void bind_cuda_rows(py::module_& module);

}  // namespace infall

PYBIND11_MODULE(INFALL_CUDA_MODULE, module) {
    module.doc() = "The CUDA kernels of infall. Arguments are checked by the Python modules.";
    module.def("device_count", &infall::device::device_count);
    module.def("architectures", [] { return std::string(INFALL_CUDA_ARCHITECTURES); });
    infall::bind_cuda_frames(module);
    infall::bind_cuda_moments(module);
    infall::bind_cuda_rows(module);
    infall::bind_cuda_geometry(module);
    infall::bind_cuda_decisions(module);
}
