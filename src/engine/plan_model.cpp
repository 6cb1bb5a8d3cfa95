#include "engine/plan_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/thread_pool.h"
#include "device/tensor_ref.h"
#include "engine/layer_stream.h"
#include "engine/load_weights.h"
#include "engine/open_devices.h"

namespace unicorn::engine {
namespace {

constexpr std::size_t kDefaultContext =
    4096;  // tokens; enough for a chat, small beside the weights

}  // namespace

plan::ModelSpec describe_model(const formats::Gguf& file, const model::Config& config) {
    plan::ModelSpec spec;
    spec.name = config.name;
    spec.n_layers = config.n_layers;
    spec.dim = config.dim;
    spec.ffn_dim = config.ffn_dim;
    spec.n_heads = config.n_heads;
    spec.n_kv_heads = config.n_kv_heads;
    spec.head_dim = config.head_dim;
    spec.n_vocab = config.n_vocab;
    spec.max_context = config.max_context;
    spec.window = config.window;
    spec.global_every = config.global_every;
    for (const formats::GgufTensor& tensor : file.tensors()) {
        if (!plan::role_of(tensor.name)) continue;
        const tensor::MatrixView view = tensor.matrix();
        plan::TensorSpec described =
            plan::describe_tensor(std::string(tensor.name), view.type, view.rows, view.cols);
        if (described.layer == plan::kNoLayer || described.layer < config.n_layers)
            spec.tensors.push_back(std::move(described));
    }
    return spec;
}

void repack_for_cpu(plan::ModelSpec& model) {
    const bool tied = model.tied();
    for (plan::TensorSpec& tensor : model.tensors) {
        const bool looked_up = !tied && tensor.role == plan::Role::embedding;
        if (!tensor::info(tensor.type).quantized || looked_up) continue;
        device::TensorRef packed;
        packed.type = tensor.type;
        packed.layout = device::Layout::panels;
        packed.rows = tensor.rows;
        packed.cols = tensor.cols;
        tensor.bytes = device::stored_bytes(packed);
    }
    for (plan::TensorSpec& tensor : model.tensors) tensor.bytes = padded(tensor.bytes);
}

void repack_for_device(plan::ModelSpec& model, const device::Device& device) {
    for (plan::TensorSpec& tensor : model.tensors) {
        device::TensorRef matrix;
        matrix.type = tensor.type;
        matrix.rows = tensor.rows;
        matrix.cols = tensor.cols;
        tensor.bytes = padded(device.place(matrix).bytes);
    }
}

plan::HardwareProfile gpu_profile(device::Device& gpu, std::size_t host_bytes) {
    plan::HardwareProfile machine = plan::cpu_only_profile(host_bytes, host_bytes);
    plan::DeviceProfile device;
    device.kind = plan::DeviceKind::gpu;
    device.name = gpu.info().name;
    for (const memory::Tier tier : gpu.weight_tiers()) {
        const memory::Usage usage = gpu.allocator(tier)->usage();
        const std::uint64_t room = usage.budget - usage.used;
        const std::string pool = fmt::format("gpu {}", memory::name(tier));
        machine.pools.push_back({pool, room, room});
        machine.tiers.push_back({tier, pool, room, 0, false});
        device.tiers.push_back(tier);
    }
    machine.devices.push_back(std::move(device));
    return machine;
}

std::uint64_t estimated_process_bytes(std::size_t n_vocab) {
    // Found in use: 1.6 MB with 8,192 tokens, 26.6 MB with 262,144.
    constexpr std::uint64_t kProgram = std::uint64_t{2} << 20, kToken = 112;
    return kProgram + kToken * n_vocab;
}

std::uint64_t reserve_bytes(std::uint64_t weight_bytes) {
    constexpr std::uint64_t kSmallThings = std::uint64_t{8} << 20;
    constexpr std::uint64_t kMappedByTable = 512;  // 8 bytes map a page of 4 KiB
    return kSmallThings + weight_bytes / kMappedByTable;
}

std::size_t default_context(std::size_t max_context) {
    return std::min(max_context, kDefaultContext);
}

plan::Workload describe_workload(const plan::ModelSpec& model, const EngineOptions& options,
                                 bool on_cpu) {
    plan::Workload workload;
    workload.context = options.context == 0 ? default_context(model.max_context) : options.context;
    workload.sequences = options.max_sequences;
    workload.chunk_tokens = options.chunk_tokens;
    workload.kv_type = options.kv_type;
    if (on_cpu) {
        const std::size_t threads = options.threads == 0 ? available_cpus() : options.threads;
        workload.scratch_bytes = [model, threads](const plan::Workload& w) {
            return cpu_scratch_bytes(model, w, threads);
        };
        std::size_t piece_bytes = 0;
        for (const plan::TensorSpec& t : model.tensors) {
            if (t.role == plan::Role::norm) continue;
            piece_bytes = std::max(piece_bytes, piece_size(t.type, t.rows, t.cols).bytes);
        }
        workload.load_staging_bytes = load_staging_bytes(threads, piece_bytes);
        workload.stream_staging_bytes = LayerStream::staging_bytes({}, piece_bytes);
    } else {
        workload.scratch_bytes = [model](const plan::Workload& w) {
            return vulkan_scratch_bytes(model, w);
        };
    }
    return workload;
}

}  // namespace unicorn::engine
