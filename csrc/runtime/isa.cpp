#include "runtime/isa.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#define INFALL_KERNELS(isa)                                                                  \
    &isa::row_kernels, &isa::moment_kernels, &isa::geometry_kernels, &isa::decision_kernels, \
        &isa::frame_kernels

namespace infall {
namespace {

std::vector<Isa> find_isas() {
    std::vector<Isa> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool has_v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                        __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe") &&
                        __builtin_cpu_supports("f16c");
    if (has_v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        found.push_back({"x86-64-v4", INFALL_KERNELS(v4)});
    if (has_v3) found.push_back({"x86-64-v3", INFALL_KERNELS(v3)});
    if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("popcnt"))
        throw std::runtime_error("infall needs an x86-64-v2 processor (SSE4.2 and POPCNT)");
    found.push_back({"x86-64-v2", INFALL_KERNELS(v2)});
#else
    found.push_back({INFALL_BASELINE_NAME, INFALL_KERNELS(baseline)});
#endif
    return found;
}

const Isa* find(const std::string& name) {
    std::string names;
    for (const Isa& isa : available_isas()) {
        if (name == isa.name) return &isa;
        names += std::string(names.empty() ? "" : ", ") + isa.name;
    }
    throw std::invalid_argument("instruction set '" + name + "' is not available here; there is " +
                                names);
}

const Isa* first_choice() {
    const char* wanted = std::getenv("INFALL_ISA");
    return wanted && *wanted ? find(wanted) : &available_isas().front();
}

std::atomic<const Isa*>& chosen() {
    static std::atomic<const Isa*> isa{first_choice()};
    return isa;
}

}  // namespace

const std::vector<Isa>& available_isas() {
    static const std::vector<Isa> isas = find_isas();
    return isas;
}

const Isa& current_isa() { return *chosen().load(); }

void set_isa(const std::string& name) { chosen().store(find(name)); }

}  // namespace infall
