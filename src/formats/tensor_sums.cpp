#include "formats/tensor_sums.h"

#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

#include "base/thread_pool.h"
#include "formats/utf8.h"

namespace unicorn::formats {
namespace {

constexpr std::size_t kStep = std::size_t{4} << 20;  // between two looks at whether to go on

struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

}  // namespace

Status verify_tensors(const Gguf& file, std::size_t n_threads,
                      const std::function<bool(std::uint64_t)>& on_progress) {
    const GgufEntry* const entry = file.find(kTensorSumsKey);
    if (entry == nullptr) {
        return fail(ErrorCode::unsupported,
                    "{}: the file has no sums of its tensors to verify (key {}); unicorn convert "
                    "and synth write them",
                    file.path(), kTensorSumsKey);
    }
    const auto* const sums = std::get_if<GgufArray>(&entry->value);
    const auto tensors = file.tensors();
    if (sums == nullptr || sums->element != GgufType::uint64 || sums->count != tensors.size()) {
        return fail(ErrorCode::invalid_file, "{}: key {} is not one uint64 for each of {} tensors",
                    file.path(), kTensorSumsKey, tensors.size());
    }
    std::atomic<std::size_t> next{0}, first_bad{tensors.size()};
    std::atomic<bool> cancelled{false};
    std::mutex mutex;
    std::uint64_t done = 0;
    ThreadPool pool(n_threads);
    pool.run([&](Team&) {
        const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
        for (std::size_t i = next++; i < tensors.size() && !cancelled; i = next++) {
            const MappedFile& holder = file.files()[tensors[i].file];
            XXH3_64bits_reset(state.get());
            for (auto rest = tensors[i].bytes; !rest.empty() && !cancelled;) {
                const auto part = rest.first(std::min(kStep, rest.size()));
                rest = rest.subspan(part.size());
                holder.will_need(rest.first(std::min(kStep, rest.size())));
                XXH3_64bits_update(state.get(), part.data(), part.size());
                holder.drop(part);
                const std::scoped_lock lock(mutex);
                done += part.size();
                if (on_progress && !on_progress(done)) cancelled = true;
            }
            std::uint64_t expected = 0;
            std::memcpy(&expected, sums->bytes.data() + i * sizeof expected, sizeof expected);
            if (cancelled || XXH3_64bits_digest(state.get()) == expected) continue;
            std::size_t seen = first_bad;
            while (i < seen && !first_bad.compare_exchange_weak(seen, i)) {
            }
        }
    });
    if (auto status = file.unchanged(); !status) return status;
    if (cancelled) return fail(ErrorCode::cancelled, "cancelled");
    if (first_bad == tensors.size()) return {};
    const GgufTensor& bad = tensors[first_bad];
    return fail(ErrorCode::invalid_file,
                "{}: tensor {} is damaged: its bytes do not have the sum they were written with",
                file.files()[bad.file].path(), shown(bad.name));
}

}  // namespace unicorn::formats
