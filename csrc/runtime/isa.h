// The instruction-set levels compiled in, and the one in use.
#pragma once

#include <string>
#include <vector>

namespace infall {

struct Isa {
    const char* name;
    int level;  // its place among the levels compiled in
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
// use, and kernels(level). INFALL_LEVELS, which names the levels compiled in, comes from the build.
#define INFALL_DECLARE_TABLE(level, Kernels, kernels) \
    namespace level {                                 \
    extern const Kernels kernels;                     \
    }
#define INFALL_TABLE_ADDRESS(level, Kernels, kernels) &level::kernels,
#define INFALL_KERNEL_TABLES(Kernels, kernels)                      \
    INFALL_LEVELS(INFALL_DECLARE_TABLE, Kernels, kernels)           \
    const Kernels& kernels(int level) {                             \
        static const Kernels* const tables[] = {                    \
            INFALL_LEVELS(INFALL_TABLE_ADDRESS, Kernels, kernels)}; \
        return *tables[level];                                      \
    }                                                               \
    const Kernels& kernels() { return kernels(current_isa().level); }
