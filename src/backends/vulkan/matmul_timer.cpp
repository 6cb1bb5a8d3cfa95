#include "backends/vulkan/matmul_timer.h"

#include <algorithm>
#include <chrono>
#include <random>

#include "backends/vulkan/weight_layout.h"
#include "base/check.h"

namespace unicorn::backends::vulkan {
namespace {

enum Buffer : std::uint8_t { kWeights, kX, kOuts, kInput, kInt8, kBuffers };

}  // namespace

std::size_t TimedProduct::bytes() const {
    std::size_t sum = 0;
    for (const std::uint32_t n : rows) sum += stored_bytes(type, n, cols);
    return sum;
}

Result<MatmulTimer> MatmulTimer::create(VulkanDevice& device, const Limits& limits) {
    MatmulTimer self(device);
    self.limits_ = limits;
    const std::size_t n_x = std::size_t{limits.n_rows} * limits.cols;
    // An output in int8 takes less than one in f32.
    const std::size_t bytes[kBuffers] = {
        limits.weight_bytes, n_x * 4, limits.outs * 4,
        Matmul::input_bytes(InputForm::f16, limits.n_rows, limits.cols), limits.outs * 4};
    for (const std::size_t n : bytes) {
        auto made = VulkanBuffer::create(device, std::max<std::size_t>(n, 64),
                                         *device.capabilities().tier(memory::Tier::vram), false);
        if (!made) return forward(made);
        self.buffers_.push_back(std::move(*made));
    }
    std::vector<float> x(n_x);
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    for (float& v : x) v = normal(generator);
    if (auto s = self.buffers_[kX].upload(0, std::as_bytes(std::span(x))); !s) return forward(s);
    return self;
}

Status MatmulTimer::fill(const TimedProduct& product) {
    if (product.type == type_ && product.cols == cols_) return {};
    constexpr std::size_t kRows = TimedProduct::kSampleRows;
    std::vector<std::byte> tiles(stored_bytes(product.type, kRows, product.cols));
    pack_rows(product.type, product.cols, kRows, 0, kRows, product.sample.data(), tiles.data());
    VulkanBuffer& weights = buffers_[kWeights];
    if (tiles.size() > weights.bytes()) tiles.resize(weights.bytes());
    if (auto s = weights.upload(0, tiles); !s) return s;
    type_ = product.type;
    cols_ = product.cols;
    return device_->run([&](VkCommandBuffer commands) {
        std::size_t filled = tiles.size();
        while (filled < weights.bytes()) {
            const VkBufferCopy copy = {0, filled, std::min(filled, weights.bytes() - filled)};
            device_->vk().vkCmdCopyBuffer(commands, weights.handle(), weights.handle(), 1, &copy);
            memory_barrier(*device_, commands);
            filled += copy.size;
        }
    });
}

MatmulCall MatmulTimer::call_of(const Matmul& matmul, const TimedProduct& product,
                                std::uint32_t n_rows) const {
    MatmulCall call = {.epilogue = product.epilogue, .n_rows = n_rows, .cols = product.cols};
    call.count = static_cast<std::uint32_t>(product.rows.size());
    call.x[0] = buffers_[kX].device_address();
    const InputForm form = matmul.input_form(product.type, n_rows);
    if (form != InputForm::f32)
        call.x[static_cast<std::size_t>(form)] = buffers_[kInput].device_address();
    std::uint64_t out = buffers_[kOuts].device_address();
    for (std::uint32_t i = 0; i < call.count; ++i) {
        call.weights[i] = {product.type, product.rows[i], 0};
        call.outs[i] = out;
        out += std::size_t{4} * n_rows * product.rows[i];
    }
    if (product.writes_int8 && matmul.writes_int8(call))
        call.int8_out = buffers_[kInt8].device_address();
    return call;
}

Result<MatmulTimer::Series> MatmulTimer::record(Matmul& matmul, const TimedProduct& product,
                                                std::uint32_t n_rows, std::size_t repeats) {
    auto commands = Commands::create(*device_);
    if (!commands) return forward(commands);
    auto stopwatch = Stopwatch::create(*device_);
    if (!stopwatch) return forward(stopwatch);
    Series series{.commands = std::move(*commands), .stopwatch = std::move(*stopwatch)};
    const VkCommandBuffer to = series.commands.handle();
    if (auto s = series.commands.begin(); !s) return forward(s);
    series.stopwatch.start(to);
    MatmulCall call = call_of(matmul, product, n_rows);
    const std::size_t bytes = product.bytes();
    const std::size_t copies = std::max<std::size_t>(1, limits_.weight_bytes / bytes);
    for (std::size_t r = 0; r < repeats; ++r) {
        std::uint64_t at = buffers_[kWeights].device_address() + r % copies * bytes;
        for (std::uint32_t i = 0; i < call.count; ++i) {
            call.weights[i].address = at;
            at += stored_bytes(product.type, product.rows[i], product.cols);
        }
        if (auto s = matmul.record(to, call); !s) return forward(s);
        memory_barrier(*device_, to);
    }
    series.stopwatch.stop(to);
    if (auto s = series.commands.end(); !s) return forward(s);
    return series;
}

Result<double> MatmulTimer::run(Series& series) {
    const auto start = std::chrono::steady_clock::now();
    auto ticket = device_->submit(series.commands.handle());
    if (!ticket) return forward(ticket);
    if (auto s = device_->wait(*ticket); !s) return forward(s);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (!series.stopwatch.has_clock()) return elapsed.count();
    return series.stopwatch.seconds();
}

Result<std::vector<double>> MatmulTimer::take_turns(std::span<Series> all, std::size_t repeats) {
    // A GPU that waited for a shader to be compiled has slowed its clock down, the further the
    // longer it waited: it is kept busy for 0.1 s first, and on until that makes it no faster.
    // (Without that, an H200 took up to 4 times as long.)
    double first_before = 0;
    for (double busy = 0; busy < 1;) {
        double first = 0;
        for (Series& series : all) {
            auto seconds = run(series);
            if (!seconds) return forward(seconds);
            busy += std::max(*seconds, 1e-4);
            if (first == 0) first = *seconds;
        }
        if (busy >= 0.1 && first > 0.97 * first_before) break;
        first_before = first;
    }
    constexpr std::size_t kTurns = 5;
    for (std::size_t turn = 0; turn < kTurns; ++turn) {
        for (Series& series : all) {
            auto seconds = run(series);
            if (!seconds) return forward(seconds);
            series.seconds.push_back(*seconds / static_cast<double>(repeats));
        }
    }
    const auto median = [](std::vector<double> values) {
        std::ranges::nth_element(values, values.begin() + kTurns / 2);
        return values[kTurns / 2];
    };
    // By the ratios to the first of the same turn: a clock that changes spoils one turn.
    std::vector<double> medians = {median(all[0].seconds)};
    for (const Series& series : all.subspan(1)) {
        std::vector<double> ratios;
        for (std::size_t turn = 0; turn < kTurns; ++turn)
            ratios.push_back(series.seconds[turn] / std::max(all[0].seconds[turn], 1e-9));
        medians.push_back(medians[0] * median(ratios));
    }
    return medians;
}

Result<double> MatmulTimer::time(Matmul& matmul, const TimedProduct& product,
                                 std::uint32_t n_rows) {
    auto seconds = time(matmul, product, n_rows, {});
    if (!seconds) return forward(seconds);
    return seconds->front();
}

Result<std::vector<double>> MatmulTimer::time(Matmul& matmul, const TimedProduct& product,
                                              std::uint32_t n_rows,
                                              std::span<const ProductShape> shapes) {
    UNICORN_CHECK(n_rows <= limits_.n_rows && product.cols <= limits_.cols);
    std::size_t rows = 0;
    for (const std::uint32_t n : product.rows) rows += n;
    UNICORN_CHECK(rows * n_rows <= limits_.outs && product.bytes() <= limits_.weight_bytes);
    if (auto s = fill(product); !s) return forward(s);
    const InputForm form = matmul.input_form(product.type, n_rows);
    if (form != InputForm::f32) {
        Status recorded;
        auto ran = device_->run([&](VkCommandBuffer commands) {
            recorded =
                matmul.record_quantize(commands, buffers_[kX].device_address(), n_rows,
                                       product.cols, form, buffers_[kInput].device_address());
        });
        if (!recorded) return forward(recorded);
        if (!ran) return forward(ran);
    }
    const std::size_t copies = std::max<std::size_t>(1, limits_.weight_bytes / product.bytes());
    const std::size_t repeats = std::clamp<std::size_t>(copies, n_rows > 64 ? 3 : 8, 32);
    std::vector<Series> all;
    const MatmulOverrides before = matmul.overrides;
    Status recorded;
    for (std::size_t i = 0; recorded && i < std::max<std::size_t>(shapes.size(), 1); ++i) {
        if (!shapes.empty()) {
            matmul.overrides = overrides_for(shapes[i]);
            matmul.overrides.most_matvec_rows = before.most_matvec_rows;
        }
        auto series = record(matmul, product, n_rows, repeats);
        if (series)
            all.push_back(std::move(*series));
        else
            recorded = forward(series);
    }
    matmul.overrides = before;
    if (!recorded) return forward(recorded);
    return take_turns(all, repeats);
}

}  // namespace unicorn::backends::vulkan
