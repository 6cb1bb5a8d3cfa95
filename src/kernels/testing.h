#pragma once
// What the tests of the small kernels share: random rows, and buffers that notice stray writes.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <random>
#include <span>
#include <vector>

namespace unicorn::kernels::testing {

inline constexpr double kEpsilon = 0x1p-24;  // the relative error of one f32 rounding

inline std::vector<float> random_floats(std::size_t n, unsigned seed, float scale = 1.0f) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;  // times scale, which may be 0
    std::vector<float> values(n);
    for (float& x : values) x = scale * normal(generator);
    return values;
}

/// n elements between two guards of 64 bytes or more, one element off any vector's alignment.
template <typename T>
class Guarded {
public:
    explicit Guarded(std::size_t n, T fill = T{})
        : bytes_((n + 2 * kGuard + 1) * sizeof(T), kByte), n_(n) {
        std::fill_n(span().begin(), n, fill);
    }
    explicit Guarded(const std::vector<T>& values) : Guarded(values.size()) {
        std::copy(values.begin(), values.end(), span().begin());
    }

    std::span<T> span() { return {reinterpret_cast<T*>(bytes_.data()) + kGuard + 1, n_}; }
    T* data() { return span().data(); }
    T& operator[](std::size_t i) { return span()[i]; }

    bool guards_intact() const {
        const auto is_guard = [](unsigned char byte) { return byte == kByte; };
        const std::size_t begin = (kGuard + 1) * sizeof(T);
        return std::all_of(bytes_.begin(), bytes_.begin() + begin, is_guard) &&
               std::all_of(bytes_.begin() + begin + n_ * sizeof(T), bytes_.end(), is_guard);
    }

private:
    static constexpr std::size_t kGuard = 64;
    static constexpr unsigned char kByte = 0xA5;
    std::vector<unsigned char> bytes_;  // new aligns it for any T here
    std::size_t n_;
};

template <typename T>
bool same_bits(std::span<const T> a, std::span<const T> b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace unicorn::kernels::testing
