// What a selection ranks, and its total order, for host and device.
#pragma once

#include <cmath>
#include <cstdint>

#include "runtime/host_device.h"

namespace infall {

struct Candidate {
    double projection;
    int64_t row;
};

INFALL_HD double score_of(const Candidate& c, bool absolute) {
    return absolute ? fabs(c.projection) : c.projection;
}

// Score descending, row ascending: no two candidates are equal.
struct RanksBefore {
    bool absolute;
    INFALL_HD bool operator()(const Candidate& a, const Candidate& b) const {
        const double left = score_of(a, absolute), right = score_of(b, absolute);
        return left != right ? left > right : a.row < b.row;
    }
};

}  // namespace infall
