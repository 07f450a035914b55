// The instruction-set levels compiled in, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "classes/decisions.h"
#include "classes/geometry.h"
#include "classes/moments.h"
#include "frames/kernels.h"
#include "rows/kernels.h"

namespace infall {

struct Isa {
    const char* name;
    const RowKernels* rows;
    const MomentKernels* moments;
    const GeometryKernels* geometry;
    const DecisionKernels* decisions;
    const FrameKernels* frames;
};

// Levels this processor has, best first.
const std::vector<Isa>& available_isas();

// The level in use: the best one, or the one named by INFALL_ISA. Throws std::invalid_argument
// where INFALL_ISA names a level that is not available.
const Isa& current_isa();
void set_isa(const std::string& name);

}  // namespace infall
