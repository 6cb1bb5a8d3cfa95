#include "variants.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <utility>

#include "backends/vulkan/compute_program.h"
#include "formats/gguf.h"
#include "kernels/draw.h"
#include "model/gemma3.h"
#include "quant/synth.h"

namespace unicorn::shader_report {
namespace {

using backends::vulkan::ComputeContext;
using backends::vulkan::ComputeProgram;
using backends::vulkan::Matmul;
using backends::vulkan::MatmulPath;
using backends::vulkan::Pipeline;
using backends::vulkan::PipelineSet;
using backends::vulkan::VulkanAllocator;
using backends::vulkan::VulkanDevice;
using backends::vulkan::WorkPace;
using device::TensorRef;
using tensor::DType;

constexpr std::size_t kMostRows = 512;  // EngineOptions::chunk_tokens
constexpr std::size_t kMostSequences = 64;
constexpr std::size_t kShortContext = 100, kLongContext = 32000;  // positions of decoded tokens
// Layers of a kind have the same shapes, and every sixth is of the other kind: the rest repeat
// these.
constexpr std::size_t kLayers = 12;

/// Addresses with no memory behind them, which is all that compiling needs.
class Addresses final : public memory::TierAllocator {
public:
    memory::Tier tier() const override { return memory::Tier::vram; }
    memory::Usage usage() const override {
        return {.used = next_, .peak = next_, .budget = SIZE_MAX};
    }
    Result<memory::Allocation> allocate(std::size_t bytes, std::size_t alignment) override {
        next_ = (next_ + alignment - 1) / alignment * alignment;
        const std::uint64_t address = next_;
        next_ += bytes;
        return memory::Allocation(*this, nullptr, address, bytes);
    }

private:
    void release(std::byte*, std::uint64_t, std::size_t) override {}
    std::size_t next_ = 4096;  // 0 means none
};

/// A model as far as its passes depend on it.
struct Model {
    model::Config config;
    model::Weights weights;
};

TensorRef operand(DType type, std::size_t rows, std::size_t cols) {
    TensorRef t = {.type = type, .tier = memory::Tier::vram, .rows = rows, .cols = cols};
    if (rows > 1) t.layout = device::Layout::tiles;  // as ComputeDevice::place()
    t.device_address = 4096;
    return t;
}

Model model_of(const quant::SynthShape& s, const quant::Recipe& recipe) {
    Model m;
    model::Config& c = m.config;
    c.name = s.name;
    c.n_layers = kLayers;
    c.dim = s.dim;
    c.ffn_dim = s.ffn_dim;
    c.n_heads = s.n_heads;
    c.n_kv_heads = s.n_kv_heads;
    c.head_dim = s.head_dim;
    c.n_vocab = s.n_vocab;
    c.max_context = s.max_context;
    c.window = s.window;
    c.global_every = s.global_every;
    c.rope_divisor_global = s.rope_divisor_global;
    c.query_scale = 1 / std::sqrt(s.query_pre_attn_scalar);
    const auto matrix = [&](quant::Role role, std::size_t layer, std::size_t rows,
                            std::size_t cols) {
        const DType wanted = quant::wanted_type(recipe, role, layer, kLayers);
        return operand(quant::fitting_type(wanted, cols), rows, cols);
    };
    const auto gain = [](std::size_t cols) { return operand(DType::f32, 1, cols); };
    const std::size_t q_dim = c.n_heads * c.head_dim, kv_dim = c.n_kv_heads * c.head_dim;
    using quant::Role;
    m.weights.token_embd = matrix(Role::embedding, 0, c.n_vocab, c.dim);
    for (std::size_t i = 0; i < kLayers; ++i) {
        m.weights.layers.push_back({.attn_norm = gain(c.dim),
                                    .attn_q = matrix(Role::q, i, q_dim, c.dim),
                                    .attn_k = matrix(Role::k, i, kv_dim, c.dim),
                                    .attn_v = matrix(Role::v, i, kv_dim, c.dim),
                                    .attn_q_norm = gain(c.head_dim),
                                    .attn_k_norm = gain(c.head_dim),
                                    .attn_output = matrix(Role::o, i, c.dim, q_dim),
                                    .post_attention_norm = gain(c.dim),
                                    .ffn_norm = gain(c.dim),
                                    .ffn_gate = matrix(Role::gate, i, c.ffn_dim, c.dim),
                                    .ffn_up = matrix(Role::up, i, c.ffn_dim, c.dim),
                                    .ffn_down = matrix(Role::down, i, c.dim, c.ffn_dim),
                                    .post_ffw_norm = gain(c.dim)});
    }
    m.weights.output_norm = gain(c.dim);
    m.weights.output = m.weights.token_embd;
    return m;
}

Result<Model> model_in(const std::string& path) {
    auto file = formats::Gguf::open(path);
    if (!file) return forward(file);
    auto config = model::read_config(*file);
    if (!config) return forward(config);
    auto weights = model::bind_weights(*file, *config);
    if (!weights) return forward(weights);
    Model m{std::move(*config), std::move(*weights)};
    const auto place = [](TensorRef& w) { w = operand(w.type, w.rows, w.cols); };
    m.weights.for_each_matrix(place);
    m.weights.for_each_gain(place);
    place(m.weights.token_embd);
    return m;
}

/// All weights of one type.
quant::Recipe only(DType type) {
    quant::Recipe recipe = {.name = tensor::name(type)};
    recipe.types.fill(type);
    return recipe;
}

/// The pipelines of one path.
class Compiler {
public:
    Compiler(VulkanDevice& device, std::unique_ptr<Matmul> matmul)
        : no_memory_(device, {}, 0),
          context_{.device = device,
                   .vram = no_memory_,
                   .results = no_memory_,
                   .staging = {},
                   .pipelines = PipelineSet(device),
                   .matmul = std::move(matmul),
                   .pace = WorkPace(1)} {
        context_.pipelines.keep_statistics = true;
        context_.matmul->keep_statistics = true;
    }

    /// Compiles for all passes of `m` with a cache of `kv_type`.
    Status compile(const Model& m, DType kv_type) {
        const model::Config& c = m.config;
        Addresses addresses;
        model::Activations a;
        const auto memory =
            model::allocate_activations(c, kMostRows, kMostSequences, addresses, addresses, a);
        if (!memory) return tl::unexpected(memory.error());
        std::vector<device::KvCache> caches;
        for (std::size_t i = 0; i < c.n_layers; ++i) {
            TensorRef pool = operand(kv_type, c.max_context * c.n_kv_heads, c.head_dim);
            pool.layout = device::Layout::rows;
            caches.push_back(
                {pool, pool,
                 c.is_global(i) ? device::LayerGroup::global : device::LayerGroup::local});
        }
        const model::ForwardPass pass = model::forward_pass(c, m.weights, a, caches);
        auto body = ComputeProgram::create(context_, pass.body, kMostRows);
        if (!body) return forward(body);
        auto head = ComputeProgram::create(context_, pass.head, kMostSequences);
        if (!head) return forward(head);
        std::vector<device::Step> picking = pass.head;
        TensorRef ids = operand(DType::f32, 1, kMostSequences);
        picking.push_back(device::PickLargest{a.logits, ids, c.n_vocab});
        auto pick = ComputeProgram::create(context_, picking, kMostSequences);
        if (!pick) return forward(pick);
        picking.back() =
            device::Sample{a.logits,
                           operand(DType::f32, kMostSequences,
                                   sizeof(kernels::draw::DrawState) / sizeof(std::uint32_t)),
                           ids, c.n_vocab};
        auto sample = ComputeProgram::create(context_, picking, kMostSequences);
        if (!sample) return forward(sample);

        for (std::size_t n = 1; n <= kMostRows; ++n)
            for (const std::size_t first :
                 {std::size_t{0}, c.max_context - std::min(n, c.max_context)})
                if (auto s = compile(**body, 1, n, first); !s) return s;
        for (std::size_t n = 1; n <= kMostSequences; ++n) {
            for (const std::size_t at : {kShortContext, std::min(kLongContext, c.max_context - 1)})
                if (auto s = compile(**body, n, 1, at); !s) return s;
            if (auto s = compile(**head, n, 1, kShortContext); !s) return s;
        }
        if (auto s = compile(**sample, 1, 1, kShortContext); !s) return s;
        return compile(**pick, 1, 1, kShortContext);
    }

    Status take(Variants& to) const {
        Status status;
        const auto use = [&](std::string_view name, std::span<const std::uint32_t> constants,
                             const Pipeline& pipeline) {
            if (auto s = add(name, constants, pipeline, to); !s && status) status = std::move(s);
        };
        context_.pipelines.each_pipeline(use);
        context_.matmul->each_pipeline(use);
        return status;
    }

private:
    /// `n_sequences` sequences of `n_rows` consecutive rows each.
    static Status compile(ComputeProgram& program, std::size_t n_sequences, std::size_t n_rows,
                          std::size_t first_position) {
        std::vector<device::Run> runs;
        for (std::size_t i = 0; i < n_sequences; ++i)
            runs.push_back({.first_row = static_cast<std::int32_t>(i * n_rows),
                            .n_rows = static_cast<std::int32_t>(n_rows),
                            .first_position = static_cast<std::int32_t>(first_position),
                            .slot = static_cast<std::int32_t>(i)});
        const std::vector<std::int32_t> zeros(n_sequences * n_rows);
        const device::Batch batch = {.tokens = zeros,
                                     .picked = {},
                                     .positions = zeros,
                                     .runs = runs,
                                     .logit_rows = std::span(zeros).first(n_sequences),
                                     .pages_per_slot = first_position / 32 + 1};
        return program.compile(batch);
    }

    static std::size_t count(std::string_view text, std::string_view what) {
        std::size_t n = 0;
        for (auto at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++n;
        return n;
    }

    static Status add(std::string_view name, std::span<const std::uint32_t> constants,
                      const Pipeline& pipeline, Variants& to) {
        VariantKey key{std::string(name), {constants.begin(), constants.end()}};
        if (to.contains(key)) return {};
        const auto statistics = pipeline.statistics();
        if (!statistics) return tl::unexpected(statistics.error());
        const auto assembly = pipeline.assembly();
        if (!assembly) return tl::unexpected(assembly.error());
        const auto subgroup_size = pipeline.subgroup_size();
        if (!subgroup_size) return tl::unexpected(subgroup_size.error());
        Variant variant = {.subgroup_size = *subgroup_size, .statistics = {}};
        for (const auto& s : *statistics) {
            // A double cannot hold a hash.
            if (s.name.ends_with("Hash") || s.name.ends_with("hash")) continue;
            variant.statistics.emplace(s.name, s.value);
        }
        variant.n_wmma = count(*assembly, "v_wmma");
        variant.n_dot4 = count(*assembly, "v_dot4");
        to.emplace(std::move(key), std::move(variant));
        return {};
    }

    VulkanAllocator no_memory_;
    ComputeContext context_;
};

}  // namespace

double Variant::value(const std::string& name) const {
    const auto found = statistics.find(name);
    return found == statistics.end() ? 0 : found->second;
}

Result<Variants> compile_variants(VulkanDevice& device, const std::string& bundled) {
    std::vector<std::pair<Model, DType>> models;
    for (const char* size : {"27b", "4b", "1b"}) {
        const auto shape = quant::find_shape(size);
        if (!shape) return tl::unexpected(shape.error());
        for (const tensor::DTypeInfo& info : tensor::all_dtypes())
            models.emplace_back(model_of(*shape, only(info.type)), DType::f16);
        for (const char* name : {"q4_k_m", "mixed"}) {
            const auto recipe = quant::find_recipe(name);
            if (!recipe) return tl::unexpected(recipe.error());
            models.emplace_back(model_of(*shape, *recipe), DType::f16);
        }
        // A file may have gate and up of different types.
        quant::Recipe unlike = only(DType::q4_0);
        unlike.types[static_cast<std::size_t>(quant::Role::up)] = DType::q8_0;
        models.emplace_back(model_of(*shape, unlike), DType::f16);
        // The attention of weights that take int8 activations, and of those that do not.
        for (const DType kv_type : {DType::q8_0, DType::f32})
            for (const DType type : {DType::q4_0, DType::f16})
                models.emplace_back(model_of(*shape, only(type)), kv_type);
    }
    for (const DType kv_type : {DType::f16, DType::q8_0, DType::f32}) {
        auto model = model_in(bundled);
        if (!model) return forward(model);
        models.emplace_back(std::move(*model), kv_type);
    }

    Variants variants;
    for (const MatmulPath path : {MatmulPath::coopmat, MatmulPath::dot4, MatmulPath::plain}) {
        auto matmul = Matmul::create(device, path);
        if (!matmul) return forward(matmul);
        Compiler compiler(device, std::move(*matmul));
        for (const auto& [model, kv_type] : models)
            if (auto s = compiler.compile(model, kv_type); !s) return forward(s);
        if (auto s = compiler.take(variants); !s) return forward(s);
    }
    return variants;
}

}  // namespace unicorn::shader_report
