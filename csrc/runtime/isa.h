// The instruction-set levels compiled in, and the one in use.
#pragma once

#include <string>
#include <vector>

namespace infall {

struct Isa {
    const char* name;
    int level;  // its place among the levels below
};

// Levels this processor has, best first.
const std::vector<Isa>& available_isas();

// The level in use: the best one, or the one named by INFALL_ISA. Throws std::invalid_argument
// where INFALL_ISA names a level that is not available.
const Isa& current_isa();
void set_isa(const std::string& name);

}  // namespace infall

// The sources of kernels are compiled once per level, each time into a namespace of the level's, in
// which they define a table of their functions. This defines kernels(), the table of the level in
// use.
#if defined(__x86_64__)
#define INFALL_KERNEL_TABLES(Kernels, kernels)                                             \
    namespace v4 {                                                                         \
    extern const Kernels kernels;                                                          \
    }                                                                                      \
    namespace v3 {                                                                         \
    extern const Kernels kernels;                                                          \
    }                                                                                      \
    namespace v2 {                                                                         \
    extern const Kernels kernels;                                                          \
    }                                                                                      \
    const Kernels& kernels() {                                                             \
        static const Kernels* const tables[] = {&v4::kernels, &v3::kernels, &v2::kernels}; \
        return *tables[current_isa().level];                                               \
    }
#else
#define INFALL_KERNEL_TABLES(Kernels, kernels) \
    namespace baseline {                       \
    extern const Kernels kernels;              \
    }                                          \
    const Kernels& kernels() { return baseline::kernels; }
#endif
