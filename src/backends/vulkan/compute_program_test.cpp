// Every step of the device against the scalar form of its kernel: real shapes, tails, and values
// that leave f16's range. A test fails on what the validation layer calls an error, too.

#include "backends/vulkan/compute_program.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "backends/vulkan/compute_device.h"
#include "backends/vulkan/matmul_testing.h"
#include "backends/vulkan/testing.h"
#include "kernels/attention.h"
#include "kernels/dequantize.h"
#include "kernels/kv_page.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/testing.h"

namespace unicorn::backends::vulkan {
namespace {

using device::TensorRef;
using kernels::Isa;
using kernels::testing::random_floats;
using tensor::DType;

class ComputeProgramTest : public testing::Test {
protected:
    void SetUp() override { open({}); }
    void open(ComputeOptions options) {
        buffers_.clear();
        allocations_.clear();
        device_.reset();
        options.device.cache_folder = "";
        options.instance.validation = has_validation_layer();
        auto device =
            ComputeDevice::open(environment("UNICORN_TEST_VULKAN", "vulkan:lavapipe"), options);
        if (!device) return skip_or_fail(device.error());
        device_ = std::move(*device);
    }
    void TearDown() override {
        buffers_.clear();
        allocations_.clear();
        if (device_ == nullptr) return;
        const auto errors = device_->validation_errors();
        EXPECT_EQ(errors, std::vector<std::string>());
    }

    /// A matrix in the device's memory, as it lies.
    TensorRef matrix(DType type, std::size_t rows, std::size_t cols,
                     std::span<const std::byte> bytes) {
        const std::size_t n = rows * tensor::row_bytes(type, cols);
        auto buffer =
            VulkanBuffer::create(device_->vulkan(), std::max<std::size_t>(n, 16),
                                 *device_->vulkan().capabilities().tier(memory::Tier::vram));
        EXPECT_TRUE(buffer);
        EXPECT_TRUE(buffer->clear());
        if (!bytes.empty()) {
            EXPECT_TRUE(buffer->upload(0, bytes));
        }
        const TensorRef ref{.type = type,
                            .tier = memory::Tier::vram,
                            .rows = rows,
                            .cols = cols,
                            .device_address = buffer->device_address()};
        buffers_.push_back(std::move(*buffer));
        return ref;
    }
    TensorRef floats(std::size_t rows, std::size_t cols, const std::vector<float>& values = {}) {
        return matrix(DType::f32, rows, cols, std::as_bytes(std::span(values)));
    }
    /// Random weights, in tiles, and as they lie in a file.
    struct Weights {
        TensorRef ref;
        std::vector<std::byte> file;
    };
    Weights weights(DType type, std::size_t rows, std::size_t cols, unsigned seed) {
        Weights w;
        w.file = matmul_testing::random_weights(type, rows, cols, seed);
        w.ref = {.type = type, .rows = rows, .cols = cols};
        const device::Placement place = device_->place(w.ref);
        auto memory = device_->allocator(memory::Tier::vram)->allocate(place.bytes, 64);
        EXPECT_TRUE(memory);
        w.ref.layout = place.layout;
        w.ref.tier = memory::Tier::vram;
        w.ref.device_address = memory->device_address();
        w.ref.host = memory->host();
        device_->pack(w.ref, 0, rows, w.file.data());
        EXPECT_TRUE(device_->check_packed());
        allocations_.push_back(std::move(*memory));
        return w;
    }
    std::vector<std::byte> bytes_of(const TensorRef& ref) {
        std::vector<std::byte> bytes(ref.rows * tensor::row_bytes(ref.type, ref.cols));
        for (const VulkanBuffer& buffer : buffers_) {
            if (buffer.device_address() == ref.device_address) {
                EXPECT_TRUE(buffer.download(0, bytes));
            }
        }
        return bytes;
    }
    std::vector<float> values_of(const TensorRef& ref) {
        const auto bytes = bytes_of(ref);
        std::vector<float> values(bytes.size() / sizeof(float));
        std::memcpy(values.data(), bytes.data(), bytes.size());
        return values;
    }

    void run(std::span<const device::Step> steps, const device::Batch& batch) {
        auto program = device_->prepare(steps, std::max<std::size_t>(1, batch.n_rows()));
        ASSERT_TRUE(program) << program.error().message;
        auto ticket = device_->submit(**program, batch, {});
        ASSERT_TRUE(ticket) << ticket.error().message;
        const auto done = device_->wait(*ticket);
        ASSERT_TRUE(done) << done.error().message;
    }
    void run(const device::Step& step, const device::Batch& batch) { run({&step, 1}, batch); }

    /// A batch of rows that no step looks at.
    static device::Batch rows(std::size_t n) {
        static const std::vector<std::int32_t> zeros(4096);
        device::Batch batch;
        batch.tokens = batch.positions = std::span(zeros).first(n);
        return batch;
    }

    std::unique_ptr<ComputeDevice> device_;
    std::vector<VulkanBuffer> buffers_;
    std::vector<memory::Allocation> allocations_;
};

/// The largest |a - b| in units of the largest |b| of its row.
double worst(std::span<const float> a, std::span<const float> b, std::size_t cols) {
    double most = 0;
    for (std::size_t first = 0; first < b.size(); first += cols) {
        double scale = 1e-30, error = 0;
        for (std::size_t i = first; i < first + cols; ++i) {
            scale = std::max(scale, static_cast<double>(std::abs(b[i])));
            if (!std::isfinite(a[i])) return HUGE_VAL;
            error =
                std::max(error, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
        }
        most = std::max(most, error / scale);
    }
    return most;
}

TEST_F(ComputeProgramTest, NormsAgreeAndDoNotOverflow) {
    constexpr float kEps = 1e-6f;
    for (const std::size_t cols : {32, 640, 1152, 5376}) {
        for (const float scale : {1e-4f, 1.0f, 1e5f}) {
            const std::size_t n_rows = 3;
            const auto x = random_floats(n_rows * cols, 1, scale);
            const auto branch = random_floats(n_rows * cols, 2, scale);
            const auto gain = random_floats(cols, 3), branch_gain = random_floats(cols, 4);
            const TensorRef residual = floats(n_rows, cols, x), out = floats(n_rows, cols),
                            sum = floats(n_rows, cols), g = floats(1, cols, gain);
            const device::Step steps[] = {
                device::RmsNorm{residual, g, out, kEps},
                device::AddNorm{residual, floats(n_rows, cols, branch),
                                floats(1, cols, branch_gain), g, sum, kEps}};
            run(steps, rows(n_rows));

            std::vector<float> normed(x), added(x), next(x);
            for (std::size_t t = 0; t < n_rows; ++t) {
                const auto row = [&](auto& values) {
                    return std::span(values).subspan(t * cols, cols);
                };
                kernels::rms_norm(Isa::scalar, row(normed), row(x), gain, kEps);
                kernels::add_rms_norm(Isa::scalar, row(added), row(branch), branch_gain, gain, kEps,
                                      row(next));
            }
            // (D/16 + 8) * 2^-24 of each term, as the contract has it; the sum's twice.
            const double bound = (static_cast<double>(cols) / 16 + 8) * 0x1p-24;
            EXPECT_LE(worst(values_of(out), normed, cols), bound) << cols << ' ' << scale;
            EXPECT_LE(worst(values_of(residual), added, cols), 4 * bound) << cols << ' ' << scale;
            EXPECT_LE(worst(values_of(sum), next, cols), 8 * bound) << cols << ' ' << scale;
        }
    }
}

TEST_F(ComputeProgramTest, LooksUpRowsOfEveryType) {
    constexpr std::size_t kRows = 37, kCols = 512;
    const std::vector<std::int32_t> tokens = {0, 36, 17, 15, 16};
    for (const tensor::DTypeInfo& info : tensor::all_dtypes()) {
        const auto file = matmul_testing::random_weights(info.type, kRows, kCols, 5);
        TensorRef weights{.type = info.type, .rows = kRows, .cols = kCols};
        const device::Placement place = device_->place(weights);
        auto memory = device_->allocator(memory::Tier::vram)->allocate(place.bytes, 64);
        ASSERT_TRUE(memory);
        weights.layout = place.layout;
        weights.tier = memory::Tier::vram;
        weights.device_address = memory->device_address();
        // As if it could not be mapped: through the staging ring, in two pieces.
        device_->pack(weights, 0, 16, file.data());
        device_->pack(weights, 16, kRows, file.data() + 16 * tensor::row_bytes(info.type, kCols));
        ASSERT_TRUE(device_->check_packed());
        const TensorRef out = floats(tokens.size(), kCols);
        device::Batch batch = rows(tokens.size());
        batch.tokens = tokens;
        run(device::Embed{weights, out, 22.5f}, batch);
        std::vector<float> expected(tokens.size() * kCols);
        for (std::size_t t = 0; t < tokens.size(); ++t) {
            const auto row = std::span(expected).subspan(t * kCols, kCols);
            kernels::dequantize_row(info.type,
                                    file.data() + static_cast<std::size_t>(tokens[t]) *
                                                      tensor::row_bytes(info.type, kCols),
                                    row);
            for (float& x : row) x *= 22.5f;
        }
        EXPECT_LE(worst(values_of(out), expected, kCols), 0x1p-20) << info.name;
    }
}

/// Pages of one layer's cache, on both sides, and a batch of runs over them.
struct Cached {
    std::size_t n_heads, n_kv_heads, head_dim;
    DType type;
    std::vector<std::byte> k, v;
    std::vector<std::int32_t> table;  // [slots, pages_per_slot]
    std::size_t pages_per_slot, n_pages = 0;
    std::vector<std::int32_t> tokens, positions;
    std::vector<device::Run> runs;

    /// `runs`: {first position, rows} each, of a sequence of its own.
    Cached(std::size_t h, std::size_t kv, std::size_t e, DType t,
           const std::vector<std::array<std::int32_t, 2>>& wanted)
        : n_heads(h), n_kv_heads(kv), head_dim(e), type(t) {
        std::int32_t row = 0, last = 0;
        for (const auto& [first, n] : wanted) {
            runs.push_back({row, n, first, static_cast<std::int32_t>(runs.size())});
            for (std::int32_t i = 0; i < n; ++i) positions.push_back(first + i);
            row += n;
            last = std::max(last, first + n);
        }
        tokens.resize(positions.size());
        pages_per_slot = static_cast<std::size_t>(last) / kernels::kPageTokens + 1;
        table.resize(runs.size() * pages_per_slot, -1);
        // Pages in an order of no kind; far out in a sequence only those that are written.
        std::vector<std::int32_t*> used;
        for (const device::Run& run : runs) {
            std::int32_t* const pages =
                table.data() + static_cast<std::size_t>(run.slot) * pages_per_slot;
            for (std::int32_t p = run.first_position > 10'000 ? run.first_position / 32 : 0;
                 p <= (run.first_position + run.n_rows - 1) / 32; ++p)
                used.push_back(pages + p);
        }
        std::shuffle(used.begin(), used.end(), std::mt19937(7));
        for (std::size_t i = 0; i < used.size(); ++i) *used[i] = static_cast<std::int32_t>(i);
        n_pages = used.size();
        k.resize(n_pages * kv * page_bytes());
        v.resize(k.size());
    }
    std::size_t page_bytes() const { return kernels::kv_page_bytes(type, head_dim); }
    std::size_t pool_rows() const { return n_pages * n_kv_heads * kernels::kPageTokens; }
    std::byte* page(std::vector<std::byte>& pool, std::size_t slot, std::size_t position,
                    std::size_t head) const {
        const auto index = static_cast<std::size_t>(
            table[slot * pages_per_slot + position / kernels::kPageTokens]);
        return pool.data() + (index * n_kv_heads + head) * page_bytes();
    }
    device::Batch batch() const {
        device::Batch b;
        b.tokens = tokens;
        b.positions = positions;
        b.runs = runs;
        b.page_tables = {table.data(), table.data()};
        b.pages_per_slot = pages_per_slot;
        return b;
    }
};

TEST_F(ComputeProgramTest, QkvGoesToTheCache) {
    constexpr float kEps = 1e-6f;
    struct Case {
        std::size_t heads, kv_heads, dim;
        double base, divisor;
    };
    for (const Case& c :
         {Case{4, 1, 256, 1e4, 1}, Case{4, 2, 128, 1e6, 8}, Case{2, 2, 64, 1e6, 1}}) {
        for (const DType type : {DType::f32, DType::f16, DType::q8_0}) {
            Cached cached(c.heads, c.kv_heads, c.dim, type, {{6000, 3}, {0, 2}, {131069, 2}});
            const std::size_t n = cached.tokens.size();
            const std::size_t q_cols = c.heads * c.dim, kv_cols = c.kv_heads * c.dim;
            auto q = random_floats(n * q_cols, 1, 50), k = random_floats(n * kv_cols, 2, 1e5f),
                 v = random_floats(n * kv_cols, 3, 1e5f);
            const auto q_gain = random_floats(c.dim, 4), k_gain = random_floats(c.dim, 5);
            device::QkvToCache step;
            step.q = floats(n, q_cols, q);
            step.k = floats(n, kv_cols, k);
            step.v = floats(n, kv_cols, v);
            step.q_gain = floats(1, c.dim, q_gain);
            step.k_gain = floats(1, c.dim, k_gain);
            step.cache.k = matrix(type, cached.pool_rows(), c.dim, {});
            step.cache.v = matrix(type, cached.pool_rows(), c.dim, {});
            step.n_heads = c.heads;
            step.n_kv_heads = c.kv_heads;
            step.head_dim = c.dim;
            step.eps = kEps;
            step.rope_base = c.base;
            step.rope_divisor = c.divisor;
            run(step, cached.batch());

            std::vector<float> cos(c.dim / 2), sin(c.dim / 2);
            for (const device::Run& run : cached.runs) {
                for (std::int32_t i = 0; i < run.n_rows; ++i) {
                    const auto t = static_cast<std::size_t>(run.first_row + i);
                    const auto position = static_cast<std::size_t>(cached.positions[t]);
                    kernels::rope_angles(cached.positions[t], c.base, c.divisor, cos, sin);
                    for (std::size_t h = 0; h < c.heads; ++h) {
                        kernels::norm_rope(Isa::scalar,
                                           std::span(q).subspan(t * q_cols + h * c.dim, c.dim),
                                           q_gain, kEps, cos, sin);
                    }
                    for (std::size_t h = 0; h < c.kv_heads; ++h) {
                        const auto k_row = std::span(k).subspan(t * kv_cols + h * c.dim, c.dim);
                        kernels::norm_rope(Isa::scalar, k_row, k_gain, kEps, cos, sin);
                        const auto slot = static_cast<std::size_t>(run.slot);
                        const std::size_t token = position % kernels::kPageTokens;
                        kernels::store_kv(Isa::scalar, type,
                                          cached.page(cached.k, slot, position, h), token, k_row);
                        kernels::store_kv(Isa::scalar, type,
                                          cached.page(cached.v, slot, position, h), token,
                                          std::span(v).subspan(t * kv_cols + h * c.dim, c.dim));
                    }
                }
            }
            EXPECT_LE(worst(values_of(step.q), q, c.dim), 64 * 0x1p-24) << c.dim;
            // v is stored as it is: the same bits. k differs by roundings before it is stored.
            EXPECT_EQ(bytes_of(step.cache.v), cached.v) << c.dim << ' ' << tensor::name(type);
            const auto stored = bytes_of(step.cache.k);
            if (type == DType::f32) {
                const auto* a = reinterpret_cast<const float*>(stored.data());
                const auto* b = reinterpret_cast<const float*>(cached.k.data());
                EXPECT_LE(worst({a, stored.size() / 4}, {b, stored.size() / 4}, c.dim),
                          64 * 0x1p-24);
            } else {
                std::size_t differ = 0;
                for (std::size_t i = 0; i < stored.size(); ++i) differ += stored[i] != cached.k[i];
                EXPECT_LE(static_cast<double>(differ), 0.02 * static_cast<double>(2 * n * kv_cols))
                    << tensor::name(type);
            }
        }
    }
}

// The last workgroup of a product of few rows adds and norms them, too, and brings them to the form
// of the next product: the same as step by step, and the same bits every time.
TEST_F(ComputeProgramTest, ProductsFinishWithTheNorm) {
    constexpr float kEps = 1e-6f;
    constexpr std::size_t kCols = 256;
    for (const std::size_t dim : {32, 64, 96, 512, 1152, 5376}) {
        for (const DType next : {DType::q4_0, DType::f16}) {
            for (const std::size_t n : {1, 3}) {
                const Weights w = weights(DType::q4_0, dim, kCols, 1);
                const Weights w_next = weights(next, 48, dim, 2);
                const auto x = random_floats(n * kCols, 3, 100),
                           residual = random_floats(n * dim, 4, 1e4f);
                const TensorRef x_ref = floats(n, kCols, x);
                const TensorRef gain = floats(1, dim, random_floats(dim, 5)),
                                branch_gain = floats(1, dim, random_floats(dim, 6));
                struct Run {
                    TensorRef residual, branch, out, product;
                    std::vector<device::Step> steps;
                };
                std::array<Run, 3> runs;
                for (Run& r : runs) {
                    r.residual = floats(n, dim, residual);
                    r.branch = floats(n, dim);
                    r.out = floats(n, dim);
                    r.product = floats(n, 48);
                    r.steps = {
                        device::Project{1, {w.ref}, x_ref, {r.branch}},
                        device::AddNorm{r.residual, r.branch, branch_gain, gain, r.out, kEps},
                        device::Project{1, {w_next.ref}, r.out, {r.product}}};
                }
                for (const device::Step& step : runs[0].steps) run(step, rows(n));
                run(runs[1].steps, rows(n));
                run(runs[2].steps, rows(n));

                const auto what = fmt::format("{} {} {}", dim, tensor::name(next), n);
                const double bound = 8 * (static_cast<double>(dim) / 16 + 8) * 0x1p-24;
                EXPECT_EQ(bytes_of(runs[1].branch), bytes_of(runs[0].branch)) << what;
                EXPECT_LE(worst(values_of(runs[1].residual), values_of(runs[0].residual), dim),
                          bound)
                    << what;
                const auto out = values_of(runs[1].out);
                EXPECT_LE(worst(out, values_of(runs[0].out), dim), bound) << what;
                const auto product = values_of(runs[1].product);
                // f16 holds for what an f16 product or one of f32 rounds.
                const auto expected = matmul_testing::expected_product(
                    next, w_next.file, 48, dim, out, n,
                    next == DType::q4_0 ? InputForm::int8 : InputForm::f16);
                for (std::size_t i = 0; i < product.size(); ++i) {
                    ASSERT_LE(std::abs(static_cast<double>(product[i]) - expected.values[i]),
                              expected.bounds[i])
                        << what << " at " << i;
                }
                for (const auto part : {&Run::residual, &Run::out, &Run::product})
                    EXPECT_EQ(bytes_of(runs[1].*part), bytes_of(runs[2].*part)) << what;
            }
        }
    }
}

// The last workgroups of q, k and v norm and rotate their heads and write the cache: the same as
// step by step, and the same bits every time.
TEST_F(ComputeProgramTest, ProductsFinishWithTheCache) {
    constexpr std::size_t kCols = 256;
    struct Case {
        std::size_t heads, kv_heads, dim;
        DType type, v_type;
        std::vector<std::array<std::int32_t, 2>> runs;
    };
    for (const Case& c : {Case{4, 1, 64, DType::f32, DType::q4_0, {{37, 1}}},
                          Case{4, 2, 128, DType::f32, DType::q4_0, {{0, 1}}},
                          Case{4, 2, 128, DType::f16, DType::q4_0, {{31, 1}}},
                          Case{2, 1, 128, DType::q8_0, DType::q4_0, {{32, 1}}},
                          // More than the workgroup has invocations for, two types, rows.
                          Case{2, 1, 256, DType::f16, DType::q4_0, {{37, 1}}},
                          Case{2, 1, 64, DType::f16, DType::q8_0, {{37, 1}}},
                          Case{2, 1, 128, DType::f32, DType::q4_0, {{31, 2}, {0, 1}}}}) {
        const Cached cached(c.heads, c.kv_heads, c.dim, c.type, c.runs);
        const std::size_t n = cached.tokens.size();
        const std::size_t q_cols = c.heads * c.dim, kv_cols = c.kv_heads * c.dim;
        const Weights q = weights(DType::q4_0, q_cols, kCols, 1),
                      k = weights(DType::q4_0, kv_cols, kCols, 2),
                      v = weights(c.v_type, kv_cols, kCols, 3);
        const TensorRef x = floats(n, kCols, random_floats(n * kCols, 4, 30));
        const TensorRef q_gain = floats(1, c.dim, random_floats(c.dim, 5)),
                        k_gain = floats(1, c.dim, random_floats(c.dim, 6));
        std::array<device::QkvToCache, 3> caches;
        for (std::size_t i = 0; i < caches.size(); ++i) {
            device::QkvToCache& step = caches[i];
            step.q = floats(n, q_cols);
            step.k = floats(n, kv_cols);
            step.v = floats(n, kv_cols);
            step.q_gain = q_gain;
            step.k_gain = k_gain;
            step.cache.k = matrix(c.type, cached.pool_rows(), c.dim, {});
            step.cache.v = matrix(c.type, cached.pool_rows(), c.dim, {});
            step.n_heads = c.heads;
            step.n_kv_heads = c.kv_heads;
            step.head_dim = c.dim;
            step.eps = 1e-6f;
            step.rope_base = 1e4;
            const device::Step steps[] = {
                device::Project{3, {q.ref, k.ref, v.ref}, x, {step.q, step.k, step.v}}, step};
            if (i > 0) {
                run(steps, cached.batch());
            } else {
                for (const device::Step& one : steps) run(one, cached.batch());
            }
        }
        const auto what = fmt::format("{} {} rows {}", c.dim, tensor::name(c.type), n);
        EXPECT_LE(worst(values_of(caches[1].q), values_of(caches[0].q), c.dim), 64 * 0x1p-24)
            << what;
        EXPECT_EQ(bytes_of(caches[1].cache.v), bytes_of(caches[0].cache.v)) << what;
        const auto stored = bytes_of(caches[1].cache.k), expected = bytes_of(caches[0].cache.k);
        std::size_t differ = 0;
        for (std::size_t i = 0; i < stored.size(); ++i) differ += stored[i] != expected[i];
        if (c.type == DType::f32) {
            EXPECT_LE(worst(values_of(caches[1].cache.k), values_of(caches[0].cache.k), c.dim),
                      64 * 0x1p-24);
        } else {
            EXPECT_LE(static_cast<double>(differ), 0.02 * static_cast<double>(2 * n * kv_cols))
                << what;
        }
        EXPECT_EQ(bytes_of(caches[1].q), bytes_of(caches[2].q)) << what;
        EXPECT_EQ(bytes_of(caches[1].cache.k), bytes_of(caches[2].cache.k)) << what;
        EXPECT_EQ(bytes_of(caches[1].cache.v), bytes_of(caches[2].cache.v)) << what;
    }
}

/// Opens devices with products, and with them attention of prompts, by one path.
class AttentionTest : public ComputeProgramTest {
protected:
    void SetUp() override {}
    void open_path(const char* path) {
        setenv("UNICORN_VK_MATMUL", path, 1);
        open({});
        unsetenv("UNICORN_VK_MATMUL");
    }

    struct Case {
        std::size_t heads, kv_heads, dim, window;
        std::vector<DType> types;
        float q_max = 2, v_max = 1;
    };
    void check(std::span<const Case> cases, double tolerance);
};

void AttentionTest::check(std::span<const Case> cases, double tolerance) {
    for (const Case& c : cases) {
        for (const DType type : c.types) {
            // Rows alone with one span and several, a prompt in tiles, one that goes on.
            Cached cached(c.heads, c.kv_heads, c.dim, type,
                          {{0, 1}, {700, 1}, {0, 70}, {129, 2}, {300, 33}, {127, 1}, {65, 40}});
            const std::size_t n = cached.tokens.size(), cols = c.heads * c.dim;
            for (auto* pool : {&cached.k, &cached.v}) {
                const bool is_k = pool == &cached.k;
                const auto values =
                    random_floats(cached.pool_rows() * c.dim, is_k, is_k ? 1 : c.v_max);
                for (std::size_t r = 0; r < cached.pool_rows(); ++r) {
                    kernels::store_kv(Isa::scalar, type,
                                      pool->data() + r / kernels::kPageTokens * cached.page_bytes(),
                                      r % kernels::kPageTokens,
                                      std::span(values).subspan(r * c.dim, c.dim));
                }
            }
            const auto q = random_floats(n * cols, 3, c.q_max);
            device::Attention step;
            step.q = floats(n, cols, q);
            step.out = floats(n, cols);
            step.cache.k = matrix(type, cached.pool_rows(), c.dim, cached.k);
            step.cache.v = matrix(type, cached.pool_rows(), c.dim, cached.v);
            step.n_heads = c.heads;
            step.n_kv_heads = c.kv_heads;
            step.head_dim = c.dim;
            step.scale = 0.2f / c.q_max;
            step.window = c.window;
            run(step, cached.batch());

            std::vector<float> expected(n * cols);
            std::vector<float> scratch(kernels::attention_scratch_floats() + 16);
            float* aligned = scratch.data();
            while (reinterpret_cast<std::uintptr_t>(aligned) % 64 != 0) ++aligned;
            std::vector<float> acc(c.dim), more(c.dim);
            for (const device::Run& run : cached.runs) {
                for (std::size_t i = 0; i < static_cast<std::size_t>(run.n_rows) * c.heads; ++i) {
                    const std::size_t t = static_cast<std::size_t>(run.first_row) + i / c.heads;
                    const std::size_t head = i % c.heads, kv = head / (c.heads / c.kv_heads);
                    const std::size_t page_stride = c.kv_heads * cached.page_bytes();
                    const kernels::KvHead keys = {
                        type,
                        cached.k.data() + kv * cached.page_bytes(),
                        cached.v.data() + kv * cached.page_bytes(),
                        page_stride,
                        cached.table.data() +
                            static_cast<std::size_t>(run.slot) * cached.pages_per_slot,
                        c.dim};
                    kernels::Queries one;
                    one.count = 1;
                    one.q[0] = q.data() + t * cols + head * c.dim;
                    one.last_key[0] = cached.positions[t];
                    one.first_key[0] = c.window == 0
                                           ? 0
                                           : std::max(0, cached.positions[t] + 1 -
                                                             static_cast<std::int32_t>(c.window));
                    kernels::PartialRow whole{-HUGE_VALF, 0, acc.data()};
                    std::fill(acc.begin(), acc.end(), 0.0f);
                    for (std::size_t span = 0;
                         span <= static_cast<std::size_t>(one.last_key[0]) / kernels::kSpanTokens;
                         ++span) {
                        kernels::PartialRow part{0, 0, more.data()};
                        kernels::attention_span(Isa::scalar, keys, one, step.scale, span,
                                                {&part, 1}, aligned);
                        kernels::merge_partial(Isa::scalar, whole, part, c.dim);
                    }
                    kernels::finish_partial(
                        Isa::scalar, whole,
                        std::span(expected).subspan(t * cols + head * c.dim, c.dim));
                }
            }
            EXPECT_LE(worst(values_of(step.out), expected, c.dim), tolerance)
                << c.dim << ' ' << tensor::name(type) << " window " << c.window << " group "
                << c.heads / c.kv_heads << " q " << c.q_max << " v " << c.v_max;
        }
    }
}

TEST_F(AttentionTest, Agrees) {
    open_path("plain");
    if (device_ == nullptr) return;
    const std::vector<DType> all = {DType::f16, DType::q8_0, DType::f32};
    const Case cases[] = {{4, 2, 128, 0, all},
                          {4, 1, 256, 100, {DType::f16}},
                          {2, 2, 64, 48, all},
                          {8, 1, 64, 0, {DType::f16}}};
    check(cases, 2e-5);
}

// Rounding to f16 (attend_matrices.comp has the bound) is 1.7e-3 of the largest here; what q
// and V are in size changes nothing, up to where the cache ends. Chunks of a prompt agree as
// closely, for rows that go on are among these.
TEST_F(AttentionTest, AgreesOnMatrixUnits) {
    open_path("plain");
    if (device_ == nullptr) return;
    {
        const auto matrices = Matmul::create(device_->vulkan(), MatmulPath::coopmat);
        if (!matrices && matrices.error().code == ErrorCode::unsupported)
            GTEST_SKIP() << matrices.error().message;
    }
    open_path("coopmat");
    if (device_ == nullptr) return;
    const std::vector<DType> both = {DType::f16, DType::q8_0};
    const Case cases[] = {{4, 2, 128, 0, both},
                          {4, 1, 256, 100, both},
                          {3, 1, 256, 0, both},
                          {2, 2, 64, 48, both},
                          {8, 1, 64, 0, both},
                          {5, 1, 128, 33, both},
                          {4, 2, 128, 0, both, 1e5f, 6e4f},
                          {4, 1, 256, 0, {DType::q8_0}, 1e5f, 8e6f},
                          {4, 1, 256, 0, both, 1e-6f, 1}};
    check(cases, 4e-3);
}

TEST_F(ComputeProgramTest, HeadMultipliesTheRowsAskedFor) {
    const std::size_t n_vocab = 50, dim = 64, n = 5;
    const Weights weights = this->weights(DType::f32, n_vocab, dim, 1);
    const auto x = random_floats(n * dim, 2);
    const TensorRef logits = floats(n, n_vocab);
    const std::vector<std::int32_t> wanted = {1, 4};
    device::Batch batch;
    batch.logit_rows = wanted;
    const device::Step step = device::Head{weights.ref, floats(n, dim, x), logits};
    auto program = device_->prepare({&step, 1}, n);
    ASSERT_TRUE(program);
    ASSERT_TRUE(device_->wait(device_->submit(**program, batch, {}).value()));
    const auto* w = reinterpret_cast<const float*>(weights.file.data());
    std::vector<float> expected(n * n_vocab);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        for (std::size_t r = 0; r < n_vocab; ++r) {
            for (std::size_t d = 0; d < dim; ++d) {
                expected[i * n_vocab + r] +=
                    w[r * dim + d] * x[static_cast<std::size_t>(wanted[i]) * dim + d];
            }
        }
    }
    const auto got = values_of(logits);
    EXPECT_LE(
        worst(std::span(got).first(2 * n_vocab), std::span(expected).first(2 * n_vocab), n_vocab),
        1e-5);
    for (std::size_t i = 2 * n_vocab; i < got.size(); ++i) EXPECT_EQ(got[i], 0.0f);
}

TEST_F(ComputeProgramTest, PicksTheLargest) {
    constexpr float kInfinity = HUGE_VALF;
    for (const std::size_t n_vocab : {1, 200, 20000}) {
        const std::size_t stride = n_vocab + 3, n = 5;
        auto values = random_floats(n * stride, 1);
        // Beyond the vocabulary, and of row 0, equal ones; then infinities, a NaN, and nothing.
        for (std::size_t t = 0; t < n; ++t) values[t * stride + n_vocab] = 1e30f;
        for (const std::size_t i : {n_vocab - 1, n_vocab / 2}) values[i] = 100;
        values[stride + n_vocab - 1] = kInfinity;
        values[2 * stride + n_vocab / 3] = std::nanf("");
        values[2 * stride + n_vocab - 1] = 100;
        std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(3 * stride), n_vocab, -kInfinity);
        const TensorRef logits = floats(n, stride, values), ids = floats(1, n);
        std::vector<std::int32_t> wanted(n);
        std::iota(wanted.begin(), wanted.end(), 0);
        device::Batch batch = rows(n);
        batch.logit_rows = wanted;
        const device::Step steps[] = {device::PickLargest{logits, ids, n_vocab},
                                      device::PickLargest{logits, ids, n_vocab}};
        run(steps, batch);
        std::vector<std::int32_t> got(n);
        std::memcpy(got.data(), bytes_of(ids).data(), n * sizeof(std::int32_t));
        const auto last = static_cast<std::int32_t>(n_vocab - 1);
        EXPECT_EQ(got[0], static_cast<std::int32_t>(n_vocab / 2)) << n_vocab;
        EXPECT_EQ(got[1], last) << n_vocab;
        EXPECT_EQ(got[2], last) << n_vocab;
        EXPECT_EQ(got[3], -1) << n_vocab;
        const auto* row = values.data() + 4 * stride;
        EXPECT_EQ(got[4], std::max_element(row, row + n_vocab) - row) << n_vocab;
    }
}

// Passes of different shapes, many in flight, each a submission for every step: results come in
// order and none is lost.
TEST_F(ComputeProgramTest, ManyPassesInFlightAndSplit) {
    open({.submission_s = 1e-12});
    const std::size_t cols = 64;
    const auto x = random_floats(8 * cols, 1);
    const auto ones = std::vector<float>(cols, 1.0f);
    const TensorRef a = floats(8, cols, x), b = floats(8, cols), gain = floats(1, cols, ones);
    const device::Step steps[] = {device::RmsNorm{a, gain, b, 0.0f},
                                  device::RmsNorm{b, gain, a, 0.0f},
                                  device::RmsNorm{a, gain, b, 0.0f}};
    auto program = device_->prepare(steps, 8);
    ASSERT_TRUE(program);
    device::Ticket last;
    for (std::size_t i = 0; i < 60; ++i) {
        auto ticket = device_->submit(**program, rows(1 + i % 8), {});
        ASSERT_TRUE(ticket) << ticket.error().message;
        EXPECT_GT(ticket->value, last.value);
        last = *ticket;
    }
    ASSERT_TRUE(device_->wait(last));
    std::vector<float> expected(x);
    for (std::size_t t = 0; t < 8; ++t) {
        const auto row = std::span(expected).subspan(t * cols, cols);
        kernels::rms_norm(Isa::scalar, row, row, ones, 0.0f);
    }
    EXPECT_LE(worst(values_of(b), expected, cols), 1e-5);
}

// A long pass ends between two submissions, and leaves nothing under way; the next one is
// whole.
TEST_F(ComputeProgramTest, APassEndsWhereItIsCancelled) {
    open({.submission_s = 1e-12});
    if (device_ == nullptr) return;
    const std::size_t cols = 64, n_steps = 6;
    std::vector<TensorRef> x = {floats(1, cols, random_floats(cols, 1))};
    const TensorRef gain = floats(1, cols, std::vector<float>(cols, 2.0f));
    std::vector<device::Step> steps;
    for (std::size_t i = 0; i < n_steps; ++i) {
        x.push_back(floats(1, cols));
        steps.push_back(device::RmsNorm{x[i], gain, x[i + 1], 1e-6f});
    }
    auto program = device_->prepare(steps, 1);
    ASSERT_TRUE(program) << program.error().message;
    std::size_t n_asked = 0, asked_until = 1;
    const std::function<bool()> cancel = [&] { return ++n_asked == asked_until; };
    device::Batch batch = rows(1);
    batch.cancel = &cancel;
    const auto cancelled = device_->submit(**program, batch, {});
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().code, ErrorCode::cancelled);
    EXPECT_EQ(n_asked, 1U);
    const auto is_computed = [&](std::size_t i) { return values_of(x[i])[0] != 0.0f; };
    EXPECT_TRUE(is_computed(2));  // two submissions were on their way
    EXPECT_FALSE(is_computed(3));
    asked_until = SIZE_MAX;
    const auto ticket = device_->submit(**program, batch, {});
    ASSERT_TRUE(ticket) << ticket.error().message;
    ASSERT_TRUE(device_->wait(*ticket));
    EXPECT_EQ(n_asked, 1 + n_steps - 2);
    EXPECT_TRUE(is_computed(n_steps));
}

TEST_F(ComputeProgramTest, TimesStepsWhenAsked) {
    open({.time_steps = true});
    const auto gain = std::vector<float>(64, 1.0f);
    const TensorRef x = floats(4, 64, random_floats(256, 1)), out = floats(4, 64);
    const device::Step step = device::RmsNorm{x, floats(1, 64, gain), out, 0.0f};
    auto program = device_->prepare({&step, 1}, 4);
    ASSERT_TRUE(program);
    for (int i = 0; i < 3; ++i)
        ASSERT_TRUE(device_->wait(device_->submit(**program, rows(4), {}).value()));
    const double seconds = device_->step_seconds()[step.index()];
    EXPECT_GT(seconds, 0);
    EXPECT_LT(seconds, 10);
}

TEST_F(ComputeProgramTest, CopiesWithinAMatrix) {
    auto memory = device_->allocator(memory::Tier::vram)->allocate(4096, 64);
    ASSERT_TRUE(memory);
    TensorRef ref{.tier = memory::Tier::vram, .rows = 64, .cols = 16};
    ref.device_address = memory->device_address();
    const auto values = random_floats(256, 1);
    device_->pack(ref, 0, 16, reinterpret_cast<const std::byte*>(values.data()));
    for (std::size_t i = 1; i < 4; ++i) {
        const device::Copy copy{ref, (i - 1) * 1024, i * 1024, 1024};
        ASSERT_TRUE(device_->copy({&copy, 1}));
    }
    const BufferPlace place = static_cast<VulkanAllocator&>(*device_->allocator(memory::Tier::vram))
                                  .place(ref.device_address);
    const TensorRef back = floats(64, 16);
    ASSERT_TRUE(device_->vulkan().run([&](VkCommandBuffer commands) {
        const VkBufferCopy region = {.srcOffset = place.offset, .dstOffset = 0, .size = 4096};
        device_->vulkan().vk().vkCmdCopyBuffer(commands, place.buffer, buffers_.back().handle(), 1,
                                               &region);
    }));
    const auto got = values_of(back);
    for (std::size_t i = 0; i < 4; ++i)
        EXPECT_TRUE(std::equal(values.begin(), values.end(), got.begin() + 256 * i)) << i;
}

TEST_F(ComputeProgramTest, NamesAStepThatItCannotRun) {
    device::Step step = device::RmsNorm{};
    const auto program = device_->prepare({&step, 1}, 1);
    ASSERT_FALSE(program);
    EXPECT_EQ(program.error().code, ErrorCode::unsupported);
    EXPECT_NE(program.error().message.find("step 0 (rms_norm)"), std::string::npos);
}

}  // namespace
}  // namespace unicorn::backends::vulkan
