#include "runtime/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdlib>
#include <initializer_list>
#include <stdexcept>

namespace infall {
namespace {

#if defined(__x86_64__)
// Asked of the processor itself: the names that __builtin_cpu_supports knows differ from one
// compiler to the next.
class Processor {
  public:
    Processor() {
        unsigned a, b, d;
        if (!__get_cpuid(1, &a, &b, &features_, &d)) return;
        if (!__get_cpuid_count(7, 0, &a, &extended_, &b, &d)) extended_ = 0;
        if (!__get_cpuid(0x80000001, &a, &b, &amd_, &d)) amd_ = 0;
        constexpr unsigned osxsave = 1u << 27;
        if (features_ & osxsave) __asm__("xgetbv" : "=a"(saved_), "=d"(d) : "c"(0));
    }

    bool has_v2() const {
        // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT
        return all(features_, {0, 9, 13, 19, 20, 23});
    }
    bool has_v3() const {
        // FMA, MOVBE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT; SSE and AVX registers
        return has_v2() && all(features_, {12, 22, 28, 29}) && all(extended_, {3, 5, 8}) &&
               all(amd_, {5}) && all(saved_, {1, 2});
    }
    bool has_v4() const {
        // AVX512F, DQ, CD, BW, VL; masks and both halves of the AVX-512 registers
        return has_v3() && all(extended_, {16, 17, 28, 30, 31}) && all(saved_, {5, 6, 7});
    }

  private:
    static bool all(unsigned word, std::initializer_list<int> bits) {
        for (const int bit : bits)
            if (!(word >> bit & 1)) return false;
        return true;
    }

    unsigned features_ = 0, extended_ = 0, amd_ = 0;
    unsigned saved_ = 0;  // registers the system saves when it switches threads (XCR0)
};
#endif

// The levels, compiled in or not, by the names of their namespaces.
struct Level {
    const char* name;
    bool is_here;  // whether this processor has it
};

std::vector<Isa> find_isas() {
#if defined(__x86_64__)
    const Processor processor;
    [[maybe_unused]] const Level v4{"x86-64-v4", processor.has_v4()};
    [[maybe_unused]] const Level v3{"x86-64-v3", processor.has_v3()};
    [[maybe_unused]] const Level v2{"x86-64-v2", processor.has_v2()};
#endif
#if defined(__aarch64__)
    const Level baseline{"arm64", true};
#else
    // Of other processors, and of a build that names none of the levels.
    [[maybe_unused]] const Level baseline{"baseline", true};
#endif
#define INFALL_LEVEL(level, unused) level,
    const Level compiled[] = {INFALL_LEVELS(INFALL_LEVEL, )};
#undef INFALL_LEVEL

    std::vector<Isa> isas;
    std::string names;
    int place = 0;
    for (const Level& level : compiled) {
        if (level.is_here) isas.push_back({level.name, place});
        names += std::string(place++ ? ", " : "") + level.name;
    }
    if (isas.empty())
        throw std::runtime_error("this build of infall needs a processor with one of the levels " +
                                 names);
    return isas;
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
    // Never destroyed: threads may still compute while the process ends.
    static const std::vector<Isa>& isas = *new std::vector<Isa>(find_isas());
    return isas;
}

const Isa& current_isa() { return *chosen().load(); }

void set_isa(const std::string& name) { chosen().store(find(name)); }

}  // namespace infall
