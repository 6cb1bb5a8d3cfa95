#include "backends/vulkan/matmul_tune.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "base/thread_pool.h"

namespace unicorn::backends::vulkan {
namespace {

/// More sums than these of an invocation leave the registers of every GPU that we know.
constexpr std::uint32_t kMostSums = 64;

void add(std::vector<ProductShape>& shapes, const ShapeLimits& limits, const ProductKey& key,
         const ProductShape& shape) {
    if (const auto* s = std::get_if<MatvecShape>(&shape)) {
        const std::uint32_t tiles = key.use == ProductUse::single ? s->panels : 2 * s->panels;
        if (tiles * s->lane_rows * s->unroll * std::min(key.n_rows, kMostMatvecRows) > kMostSums)
            return;
    }
    if (check_shape(limits, key, shape) && std::ranges::find(shapes, shape) == shapes.end())
        shapes.push_back(shape);
}

std::vector<MatvecShape> near(const MatvecShape& known) {
    std::vector<MatvecShape> shapes;
    const auto with = [&](auto change) { change(shapes.emplace_back(known)); };
    with([](MatvecShape& s) { s.invocations /= 2; });
    with([](MatvecShape& s) { s.invocations *= 2; });
    with([](MatvecShape& s) { s.lane_rows /= 2; });
    with([](MatvecShape& s) { s.lane_rows *= 2; });
    with([](MatvecShape& s) { s.unroll *= 2; });
    with([](MatvecShape& s) {
        s.invocations /= 2;
        s.lane_rows /= 2;
    });
    return shapes;
}

std::vector<MatmulShape> near(const MatmulShape& known, std::uint32_t n_rows) {
    std::vector<MatmulShape> shapes;
    const auto with = [&](auto change) { change(shapes.emplace_back(known)); };
    with([](MatmulShape& s) { s.buffers = 3 - s.buffers; });
    with([](MatmulShape& s) { s.bk = s.bk == 32 ? 64 : 32; });
    if (n_rows <= 64) with([](MatmulShape& s) { s.splits = 1; });
    if (n_rows <= 32) with([](MatmulShape& s) { s.bk = 128; });
    with([](MatmulShape& s) {
        s.bm /= 2;
        s.wm = std::min(s.wm, s.bm);
    });
    with([](MatmulShape& s) { s.wm /= 2; });
    with([](MatmulShape& s) {
        s.bn /= 2;
        s.wn = std::min(s.wn, s.bn);
    });
    if (n_rows > 64) with([](MatmulShape& s) { s.wn *= 2; });
    return shapes;
}

/// A call that is recorded nowhere.
MatmulCall call_of(const Matmul& matmul, const TuneProduct& p, std::uint32_t n_rows) {
    MatmulCall call = {.epilogue = p.product.epilogue,
                       .n_rows = n_rows,
                       .cols = p.product.cols,
                       .count = static_cast<std::uint32_t>(p.product.rows.size())};
    for (std::uint32_t k = 0; k < call.count; ++k)
        call.weights[k] = {p.product.type, p.product.rows[k], 0};
    if (p.product.writes_int8 && matmul.writes_int8(call)) call.int8_out = 1;
    return call;
}

/// Compiles what tasks will time, by all CPUs, into the driver's cache: the search would wait
/// several times as long for it, and the GPU's clock would drop meanwhile. What fails here fails
/// again in the search, which says so.
void compile_ahead(VulkanDevice& device, const Matmul& matmul, std::span<const TuneTask> tasks,
                   std::span<const TuneProduct> products, const std::function<bool()>& enough) {
    std::atomic<std::size_t> next = 0;
    const auto work = [&] {
        auto own = Matmul::create(device, matmul.path());
        if (!own) return;
        for (std::size_t i = next++; i < tasks.size() && !enough(); i = next++) {
            const TuneTask& task = tasks[i];
            const MatmulCall call = call_of(**own, products[task.product], task.n_rows);
            for (const ProductShape& shape :
                 shapes_near(matmul.shape_limits(), task.key, task.known)) {
                (*own)->overrides = overrides_for(shape);
                static_cast<void>((*own)->record(VK_NULL_HANDLE, call));
            }
        }
    };
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < std::min<std::size_t>(available_cpus(), 16); ++i)
        threads.emplace_back(work);
}

}  // namespace

TunedShapes TuneReport::faster() const {
    TunedShapes out;
    for (const TuneFinding& finding : findings)
        if (finding.best > 0) out.insert_or_assign(finding.key, finding.shapes[finding.best]);
    return out;
}

std::vector<ProductShape> shapes_near(const ShapeLimits& limits, const ProductKey& key,
                                      const ProductShape& known) {
    std::vector<ProductShape> shapes = {known};
    if (const auto* matvec = std::get_if<MatvecShape>(&known)) {
        for (const MatvecShape& s : near(*matvec)) add(shapes, limits, key, s);
    } else {
        for (const MatmulShape& s : near(std::get<MatmulShape>(known), key.n_rows))
            add(shapes, limits, key, s);
    }
    return shapes;
}

Result<TuneReport> search_shapes(std::span<const TuneTask> tasks, const ShapeLimits& limits,
                                 const TimeShapes& time, const std::function<double()>& elapsed_s,
                                 const TuneOptions& options) {
    TuneReport report;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        if (elapsed_s() > options.budget_s) {
            report.n_left = tasks.size() - i;
            break;
        }
        const TuneTask& task = tasks[i];
        TuneFinding finding{.key = task.key, .shapes = shapes_near(limits, task.key, task.known)};
        auto seconds = time(task, finding.shapes);
        if (!seconds) return forward(seconds);
        finding.seconds = std::move(*seconds);
        const double wanted = 1 - options.least_gain;
        const auto fastest = std::ranges::min_element(finding.seconds);
        if (*fastest < wanted * finding.seconds[0]) {
            const auto best = static_cast<std::size_t>(fastest - finding.seconds.begin());
            // Once more, the two alone: the best of several is often one that had luck.
            const ProductShape both[] = {finding.shapes[0], finding.shapes[best]};
            auto again = time(task, both);
            if (!again) return forward(again);
            if ((*again)[1] < wanted * (*again)[0]) {
                finding.best = best;
                finding.seconds[0] = (*again)[0];
                finding.seconds[best] = (*again)[1];
            }
        }
        report.findings.push_back(std::move(finding));
    }
    return report;
}

std::vector<TuneTask> tune_tasks(const Matmul& matmul, std::span<const TuneProduct> products) {
    std::vector<std::size_t> order(products.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::stable_sort(order, std::greater(), [&](std::size_t i) {
        return products[i].product.bytes() * products[i].times;
    });
    std::vector<TuneTask> tasks;
    for (const std::uint32_t n : {1U, UINT32_MAX, 4U, 8U, 16U, 32U, 64U}) {
        for (const std::size_t i : order) {
            const TuneProduct& p = products[i];
            // The largest number of rows of its class that the product has.
            const std::uint32_t n_rows = std::min(n, p.most_rows);
            if (row_class(n_rows) != n) continue;
            const MatmulCall call = call_of(matmul, p, n_rows);
            if (!matmul.is_tuned(call)) continue;
            TuneTask task{.product = i, .n_rows = n_rows, .key = matmul.key_of(call)};
            // Many rows of a matvec are several times its most: that number is timed, once.
            task.n_rows = std::min(n_rows, task.key.n_rows);
            if (std::ranges::find(tasks, task.key, &TuneTask::key) != tasks.end()) continue;
            if (task.key.shader == ProductShader::matmul_coopmat)
                task.known = matmul.matmul_shape(call);
            else
                task.known = matmul.matvec_shape(call);
            tasks.push_back(task);
        }
    }
    return tasks;
}

Result<TuneReport> tune_matmul(VulkanDevice& device, Matmul& matmul,
                               std::span<const TuneProduct> products, const TuneOptions& options) {
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    const Capabilities& c = device.capabilities();
    MatmulTimer::Limits limits;
    limits.weight_bytes =
        std::min({std::uint64_t{1} << 30, c.max_buffer_bytes, c.max_allocation_bytes,
                  c.tier(memory::Tier::vram)->heap_bytes / 8});
    limits.n_rows = 0;
    // Of a matrix that would fill all of this, fewer rows: the speed is the same.
    std::vector<TimedProduct> timed;
    std::uint64_t most_bytes = 0;
    for (const TuneProduct& p : products) {
        TimedProduct& t = timed.emplace_back(p.product);
        while (t.bytes() > limits.weight_bytes / 2 && t.rows[0] > 64)
            for (std::uint32_t& n : t.rows) n = std::max(n / 2 / 32 * 32, 32U);
        std::size_t rows = 0;
        for (const std::uint32_t n : t.rows) rows += n;
        limits.n_rows = std::max(limits.n_rows, p.most_rows);
        limits.cols = std::max(limits.cols, t.cols);
        limits.outs = std::max(limits.outs, rows * p.most_rows);
        most_bytes += t.bytes() * p.times;
    }
    // No more than the model itself would take, which what caches it there may be hold, too.
    limits.weight_bytes = std::min(limits.weight_bytes, std::max<std::uint64_t>(most_bytes, 64));
    auto timer = MatmulTimer::create(device, limits);
    if (!timer) return forward(timer);
    const std::vector<TuneTask> tasks = tune_tasks(matmul, products);
    compile_ahead(device, matmul, tasks, products,
                  [&] { return elapsed() > options.budget_s / 2; });
    return search_shapes(
        tasks, matmul.shape_limits(),
        [&](const TuneTask& task, std::span<const ProductShape> shapes) {
            return timer->time(matmul, timed[task.product], task.n_rows, shapes);
        },
        elapsed, options);
}

}  // namespace unicorn::backends::vulkan
