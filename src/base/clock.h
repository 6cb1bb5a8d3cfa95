#pragma once
// Time that tests can move by hand.

namespace unicorn {

/// Seconds since some moment that stays the same for the clock's life.
class Clock {
public:
    virtual ~Clock() = default;
    virtual double now_s() const = 0;
};

/// A clock that a rate-limited disk (base/read_queue.h) waits on.
class WaitableClock : public Clock {
public:
    /// Returns when now_s() >= `time_s`; at once when it already is.
    virtual void wait_until_s(double time_s) = 0;
};

/// The machine's steady clock.
Clock& steady_clock();

}  // namespace unicorn
