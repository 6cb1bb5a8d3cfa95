#include "engine/load_weights.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include "base/check.h"
#include "base/progress.h"

namespace unicorn::engine {
namespace {

class Observer final : public device::LoadObserver {
public:
    Observer(const formats::Gguf& file, std::size_t total_bytes)
        : files_(file.files()), progress_("load", total_bytes, ProgressUnit::bytes) {}

    void will_read(std::span<const std::byte> source) override {
        file_of(source).will_need(source);
    }

    void has_read(std::span<const std::byte> source) override {
        file_of(source).drop(source);
        const std::scoped_lock lock(mutex_);
        progress_.update(done_bytes_ += source.size());
    }

private:
    /// Every matrix of a Gguf lies in one of its files.
    const MappedFile& file_of(std::span<const std::byte> source) const {
        const auto found = std::ranges::find_if(files_, [&](const MappedFile& file) {
            const auto bytes = file.bytes();
            return source.data() >= bytes.data() && source.data() < bytes.data() + bytes.size();
        });
        UNICORN_CHECK(found != files_.end());
        return *found;
    }

    std::span<const MappedFile> files_;
    std::mutex mutex_;
    Progress progress_;
    std::size_t done_bytes_ = 0;
};

}  // namespace

Result<LoadedWeights> load_weights(const formats::Gguf& file, model::Weights weights,
                                   device::Device& device) {
    LoadedWeights loaded;
    loaded.weights = std::move(weights);
    std::vector<device::TensorRef*> matrices;
    std::size_t source_bytes = 0;
    loaded.weights.for_each_matrix([&](device::TensorRef& w) {
        matrices.push_back(&w);
        source_bytes += device::stored_bytes(w);
    });
    Observer observer(file, source_bytes);
    auto memory = device.load(matrices, observer);
    if (!memory) {
        return fail(memory.error().code, "{}: the weights do not fit: {}", file.path(),
                    memory.error().message);
    }
    loaded.memory = std::move(*memory);
    for (const device::TensorRef* w : matrices) loaded.read_bytes += device::stored_bytes(*w);
    return loaded;
}

}  // namespace unicorn::engine
