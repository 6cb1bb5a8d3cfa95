#include "engine/open_devices.h"

#include <algorithm>

#include "backends/cpu/cpu_device.h"
#include "backends/cpu/cpu_program.h"

namespace unicorn::engine {

Result<std::unique_ptr<device::Device>> open_device(std::string_view name, std::size_t threads,
                                                    std::size_t budget_bytes) {
    if (name == "auto" || name == "cpu") {
        auto cpu = backends::cpu::CpuDevice::open(threads, budget_bytes);
        if (!cpu) return forward(cpu);
        return std::unique_ptr<device::Device>(std::move(*cpu));
    }
    return fail(ErrorCode::unsupported, "device \"{}\" is not supported; supported: auto, cpu",
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

}  // namespace unicorn::engine
