#pragma once
// The one place that names back-ends.

#include <functional>
#include <memory>
#include <string_view>

#include "device/device.h"
#include "plan/workload.h"

namespace unicorn::engine {

/// Sequences that a GPU decodes together by itself (Engine::decode), at most: their logits lie in
/// its memory.
inline constexpr std::size_t kMaxDecoding = 32;

struct GpuOptions {
    bool time_steps = false;     // measures each step
    std::function<bool()> lose;  // for tests: asked at each submission whether the GPU is lost
};

/// Whether `name` is that of a device with memory of its own: "vulkan", "vulkan:...".
bool is_gpu(std::string_view name);

/// Opens the device called `name`: "cpu" with `threads` threads, or "vulkan", "vulkan:1",
/// "vulkan:radeon" (backends/vulkan/select_device.h).
/// What it allocates never exceeds `budget_bytes`.
/// Errors: unsupported, naming what is, or what a device lacks; not_found; out_of_memory.
Result<std::unique_ptr<device::Device>> open_device(std::string_view name, std::size_t threads,
                                                    std::size_t budget_bytes,
                                                    const GpuOptions& gpu);

/// The part of open_device() for names that is_gpu(). In a build without Vulkan
/// (UNICORN_VULKAN=OFF) it says so: not_found.
Result<std::unique_ptr<device::Device>> open_gpu(std::string_view name, std::size_t budget_bytes,
                                                 const GpuOptions& gpu);

/// Bytes that the CPU's programs of a forward pass take beside activations and cache.
std::uint64_t cpu_scratch_bytes(const plan::ModelSpec& model, const plan::Workload& workload,
                                std::size_t threads);

/// The same, at most, of a Vulkan device's programs.
std::uint64_t vulkan_scratch_bytes(const plan::ModelSpec& model, const plan::Workload& workload);

}  // namespace unicorn::engine
