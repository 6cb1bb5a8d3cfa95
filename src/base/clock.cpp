#include "base/clock.h"

#include <chrono>
#include <thread>

namespace unicorn {
namespace {

class SteadyClock final : public Clock {
public:
    double now_s() const override {
        return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
            .count();
    }
    void sleep_until_s(double time_s) override {
        const double left = time_s - now_s();
        if (left > 0) std::this_thread::sleep_for(std::chrono::duration<double>(left));
    }
};

}  // namespace

Clock& steady_clock() {
    static SteadyClock clock;
    return clock;
}

}  // namespace unicorn
