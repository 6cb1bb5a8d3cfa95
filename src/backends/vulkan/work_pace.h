#pragma once
// How long work will take on a device, learned from what it took: submissions are bounded by it, so
// that no driver ends one as hung (amdgpu after 2 s) and a desktop stays usable.

#include <algorithm>
#include <cstddef>

namespace unicorn::backends::vulkan {

/// Work as the memory it moves and the arithmetic it does.
struct WorkSize {
    double bytes = 0;
    double flops = 0;  // a multiply-add counts as two

    WorkSize& operator+=(const WorkSize& other) {
        bytes += other.bytes;
        flops += other.flops;
        return *this;
    }
};

class WorkPace {
public:
    /// `target_s`: what a submission should take at most.
    explicit WorkPace(double target_s) : target_s_(target_s) {}

    /// Seconds that this work is expected to take.
    double seconds(const WorkSize& work) const { return guess(work) * factor_; }
    double target_s() const { return target_s_; }
    /// What one guessed second takes, for telling whether older estimates still hold.
    double factor() const { return factor_; }

    /// Work that took `seconds`. One that took longer than expected counts at once, one that took
    /// less step by step.
    void learn(const WorkSize& work, double seconds) {
        const double guessed = guess(work);
        if (guessed <= 0 || seconds <= 0) return;
        double found = std::clamp(seconds / guessed, 1e-6, 1e4);
        // In short work, dispatches take most of the time: it says little of long work.
        if (seconds < target_s_ / 20) found = std::min(found, factor_);
        factor_ = found > factor_ ? found : factor_ + (found - factor_) / 4;
    }

private:
    /// As slow as two cores of a CPU that play a GPU: the first submissions are short on others.
    static double guess(const WorkSize& work) { return work.bytes / 4e9 + work.flops / 8e9; }

    double target_s_;
    double factor_ = 1;
};

}  // namespace unicorn::backends::vulkan
