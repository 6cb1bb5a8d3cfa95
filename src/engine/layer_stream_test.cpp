#include "engine/layer_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <list>
#include <numeric>

#include "backends/cpu/cpu_device.h"
#include "model/weights.h"
#include "testing/tiny_model.h"

namespace unicorn::engine {
namespace {

/// A clock that only moves when it is told to, or when someone sleeps.
class ManualClock final : public WaitableClock {
public:
    double now_s() const override { return now_; }
    void wait_until_s(double time_s) override { now_ = std::max(now_, time_s); }
    void advance(double seconds) { now_ += seconds; }

private:
    double now_ = 0;
};

constexpr std::size_t kLayers = 8;

const testing::TemporaryFolder& folder() {
    static const testing::TemporaryFolder instance;
    return instance;
}

struct Model {
    Model() : Model(default_path()) {}
    explicit Model(const std::string& path)
        : file(formats::Gguf::open(path).value()),
          device(backends::cpu::CpuDevice::open(1, std::size_t{1} << 30).value()),
          weights(model::bind_weights(file, model::read_config(file).value()).value()) {
        for (model::LayerWeights& layer : weights.layers) {
            const auto matrices = model::matrices(layer);
            layers.emplace_back(matrices.begin(), matrices.end());
            std::size_t bytes = 0;
            std::vector<std::byte>& image = images.emplace_back();
            for (const device::TensorRef* w : layers.back()) {
                const device::Placement place = device->place(*w);
                std::vector<std::byte> packed(padded(place.bytes));
                device::TensorRef to = *w;
                to.layout = place.layout;
                to.host = packed.data();
                device->pack(to, 0, to.rows, w->host);
                image.insert(image.end(), packed.begin(), packed.end());
                bytes += packed.size();
            }
            layer_bytes.push_back(bytes);
        }
    }

    static std::string default_path() {
        const std::string path = folder().path("eight.gguf");
        if (!std::filesystem::exists(path)) {
            quant::SynthShape shape = testing::tiny_shape();
            shape.n_layers = kLayers;
            testing::write_tiny_model(path, "q8_0", shape);
        }
        return path;
    }

    Result<std::unique_ptr<LayerStream>> stream(std::size_t n_buffers,
                                                const StreamOptions& options) {
        return LayerStream::create(
            file, *device, *device->allocator(memory::Tier::host), layers, n_buffers,
            *std::max_element(layer_bytes.begin(), layer_bytes.end()), options);
    }

    /// Whether the layer's matrices hold what they should.
    bool holds(std::size_t layer) const {
        return std::memcmp(layers[layer][0]->host, images[layer].data(), images[layer].size()) == 0;
    }

    formats::Gguf file;
    std::unique_ptr<backends::cpu::CpuDevice> device;
    model::Weights weights;
    std::vector<std::vector<device::TensorRef*>> layers;
    std::vector<std::vector<std::byte>> images;  // by layer, as they lie in a buffer
    std::vector<std::size_t> layer_bytes;
};

TEST(LayerStream, EveryUseFindsItsLayerWhateverTheBuffers) {
    for (const char* way : {"auto", "uring", "threads", "cache"}) {
        for (const std::size_t n_buffers : {1u, 2u, 3u, 5u, 8u}) {
            Model model;
            StreamOptions options;
            options.way = load_way_from_name(way).value();
            auto stream = model.stream(n_buffers, options);
            if (!stream && stream.error().code == ErrorCode::unsupported) continue;
            ASSERT_TRUE(stream) << stream.error().message;
            for (int pass = 0; pass < 4; ++pass) {
                for (std::size_t i = 0; i < kLayers; ++i) {
                    (*stream)->acquire(i);
                    EXPECT_TRUE(model.holds(i)) << way << ", layer " << i << " of pass " << pass;
                    // What is released is read again, not remembered.
                    std::memset(model.layers[i][0]->host, 0xEE, model.images[i].size());
                    (*stream)->release(i);
                }
            }
            EXPECT_TRUE((*stream)->status());
            const StreamStats stats = (*stream)->stats();
            EXPECT_EQ(stats.misses, 4 * kLayers);
            EXPECT_EQ(stats.hits, 0U);
        }
    }
}

// On a manual clock: every layer arrives 0.75 s after its reads began and computes for 0.25 s.
TEST(LayerStream, ReadingAheadHidesLatency) {
    constexpr double kLatency = 0.75, kCompute = 0.25;
    constexpr std::uint64_t kPasses = 3, kUses = kPasses * kLayers;
    struct Case {
        std::size_t n_buffers;
        std::uint64_t stalls;
        double stall_s;
    };
    const Case cases[] = {
        {1, kUses, kUses * kLatency},  // reading begins when the layer before is over
        // One layer ahead: of two layers that arrive together the first is waited for.
        {2, kUses / 2, kLatency + static_cast<double>(kUses / 2 - 1) * (kLatency - kCompute)},
        {4, 1, kLatency},  // three layers ahead compute for as long as a read takes
    };
    for (const Case& c : cases) {
        Model model;
        ManualClock clock;
        SlowDisk disk(std::numeric_limits<double>::infinity(), kLatency, clock);
        StreamOptions options;
        options.depth = 64;  // all of the buffers at once
        options.disk = &disk;
        options.clock = &clock;
        options.single_threaded = true;
        options.n_pinned = 5;
        auto stream = model.stream(c.n_buffers, options);
        ASSERT_TRUE(stream) << stream.error().message;
        for (std::uint64_t use = 0; use < kUses; ++use) {
            (*stream)->acquire(use % kLayers);
            EXPECT_TRUE(model.holds(use % kLayers));
            clock.advance(kCompute);
            (*stream)->release(use % kLayers);
        }
        const StreamStats stats = (*stream)->stats();
        EXPECT_EQ(stats.stalls, c.stalls) << c.n_buffers << " buffers";
        EXPECT_DOUBLE_EQ(stats.stall_s, c.stall_s) << c.n_buffers << " buffers";
        EXPECT_EQ(stats.misses, kUses);
        EXPECT_EQ(stats.hits, kPasses * 5);
        EXPECT_DOUBLE_EQ(clock.now_s(), static_cast<double>(kUses) * kCompute + c.stall_s);
    }
}

// A disk slower than the computing is the only thing that costs time: 64 KiB/s for layers that
// compute in no time, with buffers enough.
TEST(LayerStream, ASlowDiskIsKeptBusy) {
    Model model;
    ManualClock clock;
    SlowDisk disk(65536, 0, clock);
    StreamOptions options;
    options.depth = 64;
    options.disk = &disk;
    options.clock = &clock;
    options.single_threaded = true;
    auto stream = model.stream(4, options);
    ASSERT_TRUE(stream) << stream.error().message;
    std::size_t aligned_bytes = 0;
    for (const auto& layer : model.layers) {
        std::vector<Piece> pieces;
        Model in_file;
        for (const device::TensorRef* w :
             in_file.layers[static_cast<std::size_t>(&layer - model.layers.data())])
            cut_pieces(in_file.file, *w, *w, pieces);
        for (const Piece& piece : pieces) {
            const auto first = piece.offset / kReadAlignment * kReadAlignment;
            aligned_bytes += (piece.offset + piece.bytes + kReadAlignment - 1) / kReadAlignment *
                                 kReadAlignment -
                             first;
        }
    }
    for (std::size_t i = 0; i < kLayers; ++i) {
        (*stream)->acquire(i);
        (*stream)->release(i);
    }
    // All layers once, and nothing in between: the time is that of the bytes.
    EXPECT_NEAR(clock.now_s(), static_cast<double>(aligned_bytes) / 65536, 1e-6);
}

TEST(LayerStream, AFileCutOffIsAnErrorAndNobodyWaitsForever) {
    const std::string path = folder().path("cut.gguf");
    for (const bool single_threaded : {false, true}) {
        std::filesystem::copy_file(Model::default_path(), path,
                                   std::filesystem::copy_options::overwrite_existing);
        Model model(path);
        StreamOptions options;
        options.single_threaded = single_threaded;
        auto stream = model.stream(2, options);
        ASSERT_TRUE(stream) << stream.error().message;
        (*stream)->acquire(0);
        (*stream)->release(0);
        std::filesystem::resize_file(path, 100000);
        for (std::size_t use = 1; use < 2 * kLayers; ++use) {
            (*stream)->acquire(use % kLayers);
            (*stream)->release(use % kLayers);
        }
        const auto status = (*stream)->status();
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, ErrorCode::io);
        EXPECT_NE(status.error().message.find(path), std::string::npos) << status.error().message;
    }
}

}  // namespace
}  // namespace unicorn::engine
