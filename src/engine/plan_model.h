#pragma once
// What the planner is told of a model and of what the engine allocates for it.

#include "device/device.h"
#include "engine/engine.h"
#include "formats/gguf.h"
#include "model/config.h"
#include "plan/workload.h"

namespace unicorn::engine {

/// The shape and the tensors of a model from its header; no weight is read.
plan::ModelSpec describe_model(const formats::Gguf& file, const model::Config& config);

/// Sizes of matrices as the CPU keeps them: quantised ones repacked in panels, each from a multiple
/// of 64 bytes on.
void repack_for_cpu(plan::ModelSpec& model);

/// Sizes of matrices as `device` keeps them.
void repack_for_device(plan::ModelSpec& model, const device::Device& device);

/// A machine in which `gpu` is all there is to plan for: its main tier, with what its budget has
/// left, and `host_bytes` for the CPU.
plan::HardwareProfile gpu_profile(device::Device& gpu, std::size_t host_bytes);

/// What a process with a vocabulary of `n_vocab` takes before anything planned is allocated, about:
/// never less than what Engine::open() finds in use.
std::uint64_t estimated_process_bytes(std::size_t n_vocab);

/// What a plan leaves for small allocations, stacks, and the tables of pages that hold the weights.
std::uint64_t reserve_bytes(std::uint64_t weight_bytes);

/// Tokens of context where none is asked for.
std::size_t default_context(std::size_t max_context);

/// What Engine::open() would run with `options`. `on_cpu`: with the CPU's scratch memory, of as
/// many threads as `options` say.
plan::Workload describe_workload(const plan::ModelSpec& model, const EngineOptions& options,
                                 bool on_cpu);

}  // namespace unicorn::engine
