#pragma once
// Options that several commands share.

#include <CLI/App.hpp>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/sampler.h"

namespace unicorn::cli {

/// Adds "-m,--model FILE".
void add_model_option(CLI::App& app, std::string& path);

/// What UNICORN_DEVICE names, else "auto".
std::string default_device();

/// -t/--threads, --ctx, --kv-type, --policy, --memory-limit, --device.
void add_engine_options(CLI::App& app, engine::EngineOptions& options, bool opens_model = true);

/// --temp, --top-k, ..., --seed; the text forms are what finish() turns into values.
struct SamplingOptions {
    engine::SamplerOptions values;
    std::vector<std::string> logit_bias;  // "ID=BIAS"
    std::optional<std::uint64_t> seed;

    void add_to(CLI::App& app);
    /// The sampler's options; without --seed, a seed that the system chooses.
    /// Errors: invalid_argument.
    Result<engine::SamplerOptions> finish() const;
    /// `options` (of finish()) with what the user left open as the model's file suggests it.
    /// Errors: invalid_file.
    Result<engine::SamplerOptions> with_suggestions(engine::SamplerOptions options,
                                                    const engine::Engine& engine) const;

private:
    CLI::App* app_ = nullptr;  // knows which options were given
};

/// More threads than any machine has, and few enough to start them; more tokens than any context.
inline constexpr std::size_t kMaxThreads = 1024;
inline constexpr std::size_t kMaxTokens = std::numeric_limits<std::int32_t>::max();

/// For CLI::Option::check(): what is wrong with a text that should be a whole number from `low` to
/// `high`; nothing, when it is one.
std::function<std::string(const std::string&)> count_check(std::uint64_t low, std::uint64_t high);

/// An option whose value must be one of `choices` ("auto|cpu"), which also is what help and
/// completions show.
CLI::Option* add_choice(CLI::App& app, const std::string& name, std::string& value,
                        const std::string& choices, const std::string& text);

/// An option whose value is a whole number from `low` to `high`, which help shows as N.
CLI::Option* add_count(CLI::App& app, const std::string& name, std::size_t& value, std::size_t low,
                       std::size_t high, const std::string& text);

/// An option whose value is a size of at least one byte ("40GiB", base/byte_size.h), which help
/// shows as SIZE. `take` gets it.
CLI::Option* add_byte_size(CLI::App& app, const std::string& name,
                           std::function<void(std::uint64_t)> take, const std::string& text);

/// A seed: any number of 64 bits, and nothing negative.
template <typename Seed>
CLI::Option* add_seed(CLI::App& app, Seed& value, const std::string& text) {
    return app.add_option("--seed", value, text)
        ->type_name("N")
        ->check(count_check(0, std::numeric_limits<std::uint64_t>::max()));
}
/// "512,1024" as numbers. Errors: invalid_argument, naming `what`.
Result<std::vector<std::int64_t>> parse_list(std::string_view text, std::string_view what);

/// Errors: invalid_argument, when more than one of the given flags is set.
Status at_most_one(std::initializer_list<std::pair<bool, const char*>> flags);

/// $UNICORN_LOAD, where it is set: one way to read weights, whatever else would be chosen.
void set_load_way(engine::EngineOptions& options);

/// The model named or bundled, opened.
Result<std::unique_ptr<engine::Engine>> open_engine(const std::string& path,
                                                    const engine::EngineOptions& options);

}  // namespace unicorn::cli
