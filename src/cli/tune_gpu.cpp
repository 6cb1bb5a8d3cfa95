#include "cli/tune_gpu.h"

#ifdef UNICORN_VULKAN
#include <algorithm>
#include <filesystem>

#include "backends/vulkan/matmul_tune.h"
#include "cli/command.h"
#include "cli/model_path.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "engine/engine.h"
#include "engine/open_devices.h"
#include "engine/plan_model.h"
#include "formats/gguf.h"
#include "kernels/gpu_tiles.h"
#include "model/config.h"
#endif

namespace unicorn::cli {

#ifdef UNICORN_VULKAN

namespace {

using namespace backends::vulkan;

/// The options that chose what was timed, to be typed again.
std::string as_given(const TuneGpuOptions& options) {
    std::string text;
    if (options.device != TuneGpuOptions().device) text += " --device " + options.device;
    if (!options.model.empty()) text += " -m " + options.model;
    return text;
}

using plan::Role;
using plan::TensorSpec;

/// Finds the matrices of a model that are multiplied together; equal ones are counted.
class Products {
public:
    Products(const formats::Gguf& file, std::uint32_t chunk) : file_(file), chunk_(chunk) {}

    /// As a Project step multiplies them: neighbours of one type together.
    void add_projected(std::span<const TensorSpec* const> matrices, std::uint32_t most_rows) {
        for (std::size_t first = 0; first < matrices.size();) {
            std::size_t last = first + 1;
            while (last < matrices.size() && matrices[last]->type == matrices[first]->type) ++last;
            add(matrices.subspan(first, last - first), Epilogue::none, most_rows);
            first = last;
        }
    }

    void add_layer(std::span<const TensorSpec* const> of_roles) {
        const auto of = [&](Role role) { return of_roles[static_cast<std::size_t>(role)]; };
        for (const Role role :
             {Role::q, Role::k, Role::v, Role::o, Role::gate, Role::up, Role::down})
            if (of(role) == nullptr) return;
        add_projected(std::array{of(Role::q), of(Role::k), of(Role::v)}, chunk_);
        add_projected(std::array{of(Role::o)}, chunk_);
        const std::array gate_up = {of(Role::gate), of(Role::up)};
        if (gate_up[0]->type == gate_up[1]->type)
            add(gate_up, Epilogue::gelu, chunk_);
        else
            add_projected(gate_up, chunk_);
        add_projected(std::array{of(Role::down)}, chunk_);
    }

    std::vector<TuneProduct> take() { return std::move(products_); }

private:
    void add(std::span<const TensorSpec* const> matrices, Epilogue epilogue,
             std::uint32_t most_rows) {
        TuneProduct one = {.most_rows = most_rows};
        TimedProduct& p = one.product;
        p.type = matrices[0]->type;
        p.cols = static_cast<std::uint32_t>(matrices[0]->cols);
        p.epilogue = epilogue;
        p.writes_int8 = epilogue != Epilogue::none;
        for (const TensorSpec* m : matrices) p.rows.push_back(static_cast<std::uint32_t>(m->rows));
        const auto known = std::ranges::find_if(products_, [&](const TuneProduct& q) {
            return q.product.type == p.type && q.product.cols == p.cols &&
                   q.product.rows == p.rows && q.product.epilogue == p.epilogue;
        });
        if (known != products_.end()) {
            ++known->times;
            return;
        }
        if (p.cols % kernels::gpu_tile_columns(p.type) != 0) return;
        const formats::GgufTensor* tensor = file_.find_tensor(matrices[0]->name);
        if (tensor == nullptr || tensor->bytes.empty()) return;
        // A small matrix is repeated.
        p.sample.resize(TimedProduct::kSampleRows * tensor::row_bytes(p.type, p.cols));
        for (std::size_t i = 0; i < p.sample.size(); ++i)
            p.sample[i] = tensor->bytes[i % tensor->bytes.size()];
        products_.push_back(std::move(one));
    }

    const formats::Gguf& file_;
    std::uint32_t chunk_;
    std::vector<TuneProduct> products_;
};

std::vector<TuneProduct> products_of(const plan::ModelSpec& model, const formats::Gguf& file) {
    const auto chunk = static_cast<std::uint32_t>(engine::EngineOptions().chunk_tokens);
    Products products(file, chunk);
    std::vector<std::array<const TensorSpec*, plan::kRoles>> layers(model.n_layers);
    const Role head_role = model.tied() ? Role::embedding : Role::head;
    const TensorSpec* head = nullptr;
    for (const TensorSpec& t : model.tensors) {
        if (t.layer < layers.size()) layers[t.layer][static_cast<std::size_t>(t.role)] = &t;
        if (t.role == head_role) head = &t;
    }
    for (const auto& layer : layers) products.add_layer(layer);
    if (head != nullptr) products.add_projected(std::array{head}, engine::kMaxDecoding);
    return products.take();
}

std::string table_of(const TuneReport& report, bool colour) {
    using enum Align;
    std::vector<std::vector<std::string>> rows{
        {"weights", "rows x columns", "use", "at once", "shape", "us", "faster", "us", "gain"}};
    for (const TuneFinding& f : report.findings) {
        const auto us = [&](std::size_t i) { return fmt::format("{:.1f}", f.seconds[i] * 1e6); };
        const bool found = f.best > 0;
        rows.push_back(
            {std::string(tensor::name(f.key.type)), fmt::format("{} x {}", f.key.rows, f.key.cols),
             std::string(name(f.key.use)), format_row_class(f.key.n_rows),
             format_shape(f.shapes[0]), us(0), found ? format_shape(f.shapes[f.best]) : "-",
             found ? us(f.best) : "-",
             found ? fmt::format("{:.0f} %", 100 * (f.seconds[0] / f.seconds[f.best] - 1)) : "-"});
    }
    return aligned_table(rows, {left, right, left, right, left, right, left, right, right}, colour);
}

Result<int> print(const std::string& text) {
    if (auto status = write_out(text); !status) return forward(status);
    return kSuccess;
}

}  // namespace

Result<int> tune_gpu(const TuneGpuOptions& options) {
    auto instance = VulkanInstance::open();
    if (!instance) return forward(instance);
    auto device = VulkanDevice::open(**instance, options.device);
    if (!device) return forward(device);
    for (const std::string& warning : (*device)->warnings()) note("warning: {}", warning);
    const std::string path =
        tuned_shapes_path((*device)->cache_folder(), (*device)->capabilities().device_uuid);
    if (options.restore) {
        std::error_code error;
        const bool removed = !path.empty() && std::filesystem::remove(path, error);
        if (error) return fail(ErrorCode::io, "{}: cannot remove: {}", path, error.message());
        return print(removed ? fmt::format("{} is removed: {} has its default shapes\n", path,
                                           (*device)->name())
                             : "nothing was kept\n");
    }
    if (options.apply && path.empty())
        return fail(ErrorCode::io, "nothing can be kept: neither XDG_CACHE_HOME nor HOME is set");
    auto model_path = resolve_model(options.model);
    if (!model_path) return forward(model_path);
    auto file = formats::Gguf::open(*model_path);
    if (!file) return forward(file);
    auto config = model::read_config(*file);
    if (!config) return forward(config);
    auto matmul = Matmul::create(**device);
    if (!matmul) return forward(matmul);

    TunedShapes kept = (*matmul)->tuned();
    (*matmul)->use_tuned({});
    const auto products = products_of(engine::describe_model(*file, *config), *file);
    if (auto status = file->unchanged(); !status) return forward(status);
    note("{}: timing shapes for {}", (*device)->name(), config->name);
    auto report = tune_matmul(**device, **matmul, products, {});
    if (!report) return forward(report);

    // What was kept for other models stays.
    for (const TuneFinding& finding : report->findings) kept.erase(finding.key);
    const TunedShapes faster = report->faster();
    for (const auto& [key, shape] : faster) kept.insert_or_assign(key, shape);
    std::string text = table_of(*report, colour_wanted(1));
    if (report->n_left > 0)
        text += fmt::format("\n{} more were left out: the time was up\n", report->n_left);
    if (!options.apply) {
        text += faster.empty()
                    ? "\nThe default shapes are the fastest.\n"
                    : fmt::format("\nTo keep what is faster: unicorn tune --gpu --apply{}\n",
                                  as_given(options));
        return print(text);
    }
    if (auto s = store_tuned_shapes(path, (*matmul)->tuned_for(), kept); !s) return forward(s);
    return print(text + fmt::format("\nkept in {}\n", path));
}

#else

Result<int> tune_gpu(const TuneGpuOptions&) {
    return fail(ErrorCode::unsupported, "this program was built without Vulkan");
}

#endif

}  // namespace unicorn::cli
