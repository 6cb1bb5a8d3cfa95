#include "engine/suggested_sampling.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "formats/gemma3_keys.h"

namespace unicorn::engine {
namespace {

/// The number under `key`, if there is one of that name and kind.
std::optional<double> find_number(const formats::Gguf& file, std::string_view key) {
    if (file.find(key) == nullptr) return std::nullopt;
    const auto value = file.get_float(key);
    if (!value) return std::nullopt;
    return *value;
}

}  // namespace

Result<SamplerOptions> suggested_sampling(const formats::Gguf& file, std::size_t context) {
    namespace keys = formats::sampling;
    SamplerOptions options;
    const auto number = [&](std::string_view key, float& out) {
        if (const auto value = find_number(file, key)) out = static_cast<float>(*value);
    };
    const auto count = [&](std::string_view key, std::size_t if_negative, std::size_t& out) {
        const auto value = find_number(file, key);
        if (!value) return;
        constexpr std::size_t kMost =
            1 << 20;  // what a sampler takes; more than any vocabulary or context
        out = std::min(*value < 0 ? if_negative : static_cast<std::size_t>(std::min(*value, 1e9)),
                       kMost);
    };
    number(keys::kTemperature, options.temperature);
    number(keys::kTopP, options.top_p);
    number(keys::kMinP, options.min_p);
    number(keys::kRepeatPenalty, options.repeat_penalty);
    count(keys::kTopK, 0, options.top_k);
    count(keys::kPenaltyLastN, context, options.penalty_last_n);
    if (auto status = validate(options, std::numeric_limits<std::int32_t>::max()); !status) {
        return fail(ErrorCode::invalid_file, "{}: suggested sampling: {}", file.path(),
                    status.error().message);
    }
    return options;
}

}  // namespace unicorn::engine
