#include "engine/open_devices.h"

#include <algorithm>

#include "backends/cpu/cpu_device.h"
#include "backends/cpu/cpu_program.h"

namespace unicorn::engine {

bool is_gpu(std::string_view name) { return name == "vulkan" || name.starts_with("vulkan:"); }

Result<std::unique_ptr<device::Device>> open_device(std::string_view name, std::size_t threads,
                                                    std::size_t budget_bytes,
                                                    const GpuOptions& gpu) {
    if (name == "cpu") {
        auto cpu = backends::cpu::CpuDevice::open(threads, budget_bytes);
        if (!cpu) return forward(cpu);
        return std::unique_ptr<device::Device>(std::move(*cpu));
    }
    if (is_gpu(name)) return open_gpu(name, budget_bytes, gpu);
    return fail(ErrorCode::unsupported,
                "device \"{}\" is not supported; supported: auto, cpu, vulkan, vulkan:N, "
                "vulkan:NAME",
                name);
}

std::uint64_t cpu_scratch_bytes(const plan::ModelSpec& model, const plan::Workload& workload,
                                std::size_t threads) {
    backends::cpu::ScratchShape body, head;
    body.max_rows = plan::chunk_rows(workload);
    head.max_rows = plan::logit_rows(workload);
    body.n_threads = head.n_threads = threads;
    for (const plan::TensorSpec& tensor : model.tensors) {
        const bool is_head =
            tensor.role == (model.tied() ? plan::Role::embedding : plan::Role::head);
        const bool quantized = tensor::info(tensor.type).quantized;
        const std::size_t wide = backends::cpu::is_wide(tensor.type) ? 1 : 0;
        if (is_head) (quantized ? head.quantized_cols[wide] : head.gathered_cols) = tensor.cols;
        if (tensor.layer != plan::kNoLayer && quantized) {
            std::size_t& most = body.quantized_cols[wide];
            most = std::max(most, tensor.cols);
        }
    }
    body.tiles = true;
    body.head_dim = model.head_dim;
    const std::size_t row =
        2 * model.n_kv_heads * tensor::row_bytes(workload.kv_type, model.head_dim);
    bool global = false, local = false;
    for (std::size_t layer = 0; layer < model.n_layers; ++layer) {
        (model.is_global(layer) ? global : local) = true;
        body.kv_pool_tokens = std::max<std::size_t>(
            body.kv_pool_tokens, plan::kv_bytes(model, workload, layer).held / row);
    }
    // Each kind of layer has its own RoPE base.
    body.n_rope_tables = (global ? 1 : 0) + (local ? 1 : 0);
    return backends::cpu::scratch_bytes(body) + backends::cpu::scratch_bytes(head);
}

std::uint64_t vulkan_scratch_bytes(const plan::ModelSpec& model, const plan::Workload& workload) {
    std::uint64_t most_cols = 0;
    for (const plan::TensorSpec& tensor : model.tensors)
        if (tensor.layer != plan::kNoLayer)
            most_cols = std::max<std::uint64_t>(most_cols, tensor.cols);
    const std::uint64_t rows = plan::chunk_rows(workload);
    // Inputs in int8 and in f16 side by side, gate and up of different types, rows for the head,
    // and partial attention, which is less than 1,024 workgroups' times 8 heads of 258 floats.
    const std::uint64_t partial = std::uint64_t{1024 + 64} * 8 * (model.head_dim + 2) * 4;
    // Sequences that decode by themselves: logits, what the two passes in flight gather and
    // quantise for the head, with and without sampling, and what selects and draws the tokens.
    const std::uint64_t decoding = std::min(workload.sequences, kMaxDecoding) *
                                   (model.n_vocab * 4 + 4 * model.dim * 8 + (128 << 10));
    return rows * most_cols * 4 + rows * model.ffn_dim * 4 +
           plan::logit_rows(workload) * model.dim * 8 + partial + decoding;
}

}  // namespace unicorn::engine
