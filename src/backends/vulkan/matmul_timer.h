#pragma once
// Times products of the matrix shaders, as they are in a pass: one after the other with barriers
// between, over copies of the weights that no cache holds.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backends/vulkan/matmul.h"
#include "backends/vulkan/stopwatch.h"

namespace unicorn::backends::vulkan {

/// Matrices of one type that are multiplied together: q, k and v; gate and up; or one.
struct TimedProduct {
    tensor::DType type = tensor::DType::f32;
    std::vector<std::uint32_t> rows;  // of each, at most 3
    std::uint32_t cols = 0;
    Epilogue epilogue = Epilogue::none;
    bool writes_int8 = false;  // where it can (Matmul::writes_int8())
    /// kSampleRows rows as they lie in a file, of which the weights are made.
    std::vector<std::byte> sample;

    static constexpr std::size_t kSampleRows = 64;
    std::size_t bytes() const;
};

class MatmulTimer {
public:
    struct Limits {
        std::size_t weight_bytes = std::size_t{1} << 30;  // copies of a product's weights fill this
        std::uint32_t n_rows = 512;                       // of activations
        std::uint32_t cols = 0;
        std::size_t outs = 0;  // the products of all rows of activations
    };
    /// Takes memory for these. Errors: out_of_memory, device_lost; as Pipeline::create.
    static Result<MatmulTimer> create(VulkanDevice& device, const Limits& limits);

    /// The call that is timed; of the addresses only those of the weights are left out.
    MatmulCall call_of(const Matmul& matmul, const TimedProduct& product,
                       std::uint32_t n_rows) const;

    /// Median seconds of one product as `matmul` computes it.
    Result<double> time(Matmul& matmul, const TimedProduct& product, std::uint32_t n_rows);
    /// The same with each of `shapes`, in turn, so that a clock that rises or falls meets them all.
    Result<std::vector<double>> time(Matmul& matmul, const TimedProduct& product,
                                     std::uint32_t n_rows, std::span<const ProductShape> shapes);

private:
    struct Series {
        Commands commands;
        Stopwatch stopwatch;
        std::vector<double> seconds = {};
    };

    explicit MatmulTimer(VulkanDevice& device) : device_(&device) {}
    Status fill(const TimedProduct& product);
    Result<Series> record(Matmul& matmul, const TimedProduct& product, std::uint32_t n_rows,
                          std::size_t repeats);
    Result<double> run(Series& series);
    Result<std::vector<double>> take_turns(std::span<Series> all, std::size_t repeats);

    VulkanDevice* device_;
    std::vector<VulkanBuffer> buffers_;  // weights, x, outs, x in int8 or f16, an output in int8
    Limits limits_;
    tensor::DType type_ = tensor::DType::f32;
    std::uint32_t cols_ = 0;
};

}  // namespace unicorn::backends::vulkan
