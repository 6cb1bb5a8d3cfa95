#pragma once
// A short search for the shapes that suit a GPU and a model: a handful for each kind of product and
// number of rows, each timed on the device.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backends/vulkan/matmul_timer.h"
#include "backends/vulkan/tuned_shapes.h"

namespace unicorn::backends::vulkan {

/// A product of a model.
struct TuneProduct {
    TimedProduct product;
    std::uint32_t times = 1;        // in a pass
    std::uint32_t most_rows = 512;  // of activations that it ever has
};

struct TuneOptions {
    double budget_s = 10;  // nothing new is begun after this
    double least_gain = 0.03;
};

/// What was found for a key: `shapes[0]` is what was used before.
struct TuneFinding {
    ProductKey key;
    std::vector<ProductShape> shapes;
    std::vector<double> seconds;  // of a product, with each
    std::size_t best = 0;         // 0, where no other is clearly faster
};

struct TuneReport {
    std::vector<TuneFinding> findings;  // in the order of the search
    std::size_t n_left = 0;             // keys for which there was no time
    /// Shapes that are clearly faster than what was used before.
    TunedShapes faster() const;
};

/// The shapes to try: `known` and a handful near it, all valid.
std::vector<ProductShape> shapes_near(const ShapeLimits& limits, const ProductKey& key,
                                      const ProductShape& known);

/// Something to search for: rows of activations to time a product with, its key, what is used now.
struct TuneTask {
    std::size_t product = 0;  // index
    std::uint32_t n_rows = 1;
    ProductKey key;
    ProductShape known;
};
/// Seconds of a product with each of the shapes.
using TimeShapes =
    std::function<Result<std::vector<double>>(const TuneTask&, std::span<const ProductShape>)>;

/// Searches for each task in turn, until the budget is used up by the clock `elapsed_s`.
/// Errors: those of `time`.
Result<TuneReport> search_shapes(std::span<const TuneTask> tasks, const ShapeLimits& limits,
                                 const TimeShapes& time, const std::function<double()>& elapsed_s,
                                 const TuneOptions& options);

/// What there is to search for, what matters most first: one row, prompts, then the numbers of rows
/// between; among these, what takes most of a pass.
std::vector<TuneTask> tune_tasks(const Matmul& matmul, std::span<const TuneProduct> products);

/// All of it on a device. Takes up to 2 GiB of its memory. Errors: out_of_memory, device_lost.
Result<TuneReport> tune_matmul(VulkanDevice& device, Matmul& matmul,
                               std::span<const TuneProduct> products, const TuneOptions& options);

}  // namespace unicorn::backends::vulkan
