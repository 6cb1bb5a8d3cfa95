#pragma once
// Weights that are not in memory all the time.

#include <cstddef>

namespace unicorn::device {

/// Who brings streamed weights: steps between acquire(i) and release(i) may read those of unit i.
/// Every pass acquires and releases the units 0, 1, ... to the last in this order, one at a time.
class WeightGate {
public:
    virtual ~WeightGate() = default;
    /// Blocks until the weights of `unit` are where the steps' operands say. When they cannot be
    /// read it returns all the same; who submitted the program asks the gate's owner afterwards.
    virtual void acquire(std::size_t unit) = 0;
    /// The weights of `unit` may be overwritten.
    virtual void release(std::size_t unit) = 0;
};

}  // namespace unicorn::device
