#include "cli/options.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

#include "base/byte_size.h"
#include "cli/model_path.h"
#include "cli/terminal.h"
#include "engine/suggested_sampling.h"

namespace unicorn::cli {
namespace {

constexpr const char* kEngineGroup = "Machine";
constexpr const char* kSamplingGroup = "Sampling (what is left open: as the model's file suggests)";

template <typename Number>
bool parse_number(std::string_view text, Number& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size();
}

/// For CLI::Option::check(): what is wrong with a text that should be one of `choices`.
std::function<std::string(const std::string&)> choice_check(const std::string& choices) {
    return [choices](const std::string& given) -> std::string {
        std::string_view rest = choices;
        while (!rest.empty()) {
            const std::size_t end = std::min(rest.find('|'), rest.size());
            if (rest.substr(0, end) == given) return {};
            rest.remove_prefix(std::min(end + 1, rest.size()));
        }
        return fmt::format("'{}' is none of {}", given, choices);
    };
}

}  // namespace

void add_model_option(CLI::App& app, std::string& path) {
    app.add_option("-m,--model", path,
                   "GGUF model; default: $UNICORN_MODEL, else the bundled model")
        ->type_name("FILE");
}

std::function<std::string(const std::string&)> count_check(std::uint64_t low, std::uint64_t high) {
    return [low, high](const std::string& given) -> std::string {
        std::uint64_t number = 0;
        if (parse_number(given, number) && number >= low && number <= high) return {};
        return fmt::format("'{}' is not a whole number from {} to {}", given, low, high);
    };
}

CLI::Option* add_count(CLI::App& app, const std::string& name, std::size_t& value, std::size_t low,
                       std::size_t high, const std::string& text) {
    return app.add_option(name, value, text)->type_name("N")->check(count_check(low, high));
}

CLI::Option* add_choice(CLI::App& app, const std::string& name, std::string& value,
                        const std::string& choices, const std::string& text) {
    return app.add_option(name, value, text)->type_name(choices)->check(choice_check(choices));
}

CLI::Option* add_byte_size(CLI::App& app, const std::string& name,
                           std::function<void(std::uint64_t)> take, const std::string& text) {
    return app
        .add_option_function<std::string>(
            name,
            [take = std::move(take)](const std::string& size) { take(*parse_byte_size(size)); },
            text)
        ->type_name("SIZE")
        ->check([](const std::string& size) -> std::string {
            const auto bytes = parse_byte_size(size);
            if (!bytes) return bytes.error().message;
            if (*bytes >= 1'000'000) return "";
            return fmt::format("'{}' is less than a megabyte; a size has a unit, as in 2GiB", size);
        });
}

std::string default_device() {
    const char* device = std::getenv("UNICORN_DEVICE");
    return device == nullptr || *device == 0 ? "auto" : device;
}

void add_engine_options(CLI::App& app, engine::EngineOptions& options, bool opens_model) {
    add_count(app, "-t,--threads", options.threads, 0, kMaxThreads,
              "CPU threads; default or 0: one for each CPU allowed")
        ->group(kEngineGroup);
    add_count(app, "-c,--ctx", options.context, 1, kMaxTokens,
              "Tokens that prompt and answer may take together;\ndefault: what the model "
              "allows, at most 4096")
        ->group(kEngineGroup);
    const char* const kv_types = "f16|q8_0|f32";
    app.add_option_function<std::string>(
           "--kv-type",
           [&options](const std::string& name) {
               options.kv_type = *tensor::dtype_from_name(name);
           },
           "What the context's keys and values are kept as (default f16);\nq8_0 takes about half "
           "of the memory of f16, for a small error")
        ->type_name(kv_types)
        ->check(choice_check(kv_types))
        ->group(kEngineGroup);
    const char* const policies = "auto|hma|roles";
    app.add_option_function<std::string>(
           "--policy",
           [&options](const std::string& name) { options.policy = *plan::find_policy(name); },
           "Which memory gets what (default auto: the fastest with room);\nhma and roles need a "
           "GPU")
        ->type_name(policies)
        ->check(choice_check(policies))
        ->group(kEngineGroup);
    add_byte_size(
        app, "--memory-limit",
        [&options](std::uint64_t bytes) { options.memory_limit_bytes = bytes; },
        "Memory that the program may take, such as 2GiB or 1500MB;\nlayers that do not fit are "
        "read from the disk for every token.\nDefault: what the machine has")
        ->group(kEngineGroup);
    const char* const streams = "pin|lru";
    app.add_option_function<std::string>(
           "--stream",
           [&options](const std::string& name) {
               options.stream = *plan::find_stream_policy(name);
           },
           "What does not fit: keep the layers that do (default), or\nread them all, as a cache of "
           "the last used would")
        ->type_name(streams)
        ->check(choice_check(streams))
        ->group(kEngineGroup);
    if (opens_model) {
        app.add_flag("--verify", options.verify,
                     "First compare the model's tensors with the sums that\nunicorn convert and "
                     "synth store in the file")
            ->group(kEngineGroup);
    }
    options.device = opens_model ? default_device() : "auto";
    app.add_option(
           "--device", options.device,
           fmt::format("What runs the model: cpu, vulkan (the first GPU),\nvulkan:N (by index) or "
                       "vulkan:NAME (part of its name)\n"
                       "(default auto: a GPU that can hold all of it,\nelse the CPU{})",
                       opens_model ? "; UNICORN_DEVICE sets another default" : ""))
        ->type_name("auto|cpu|vulkan[:N|:NAME]")
        ->check([](const std::string& name) -> std::string {
            const bool known = name == "auto" || name == "cpu" || name == "vulkan" ||
                               (name.starts_with("vulkan:") && name.size() > 7);
            if (known) return "";
            return fmt::format("'{}' is none of auto, cpu, vulkan, vulkan:N, vulkan:NAME", name);
        })
        ->group(kEngineGroup);
}

void SamplingOptions::add_to(CLI::App& app) {
    app_ = &app;
    const engine::SamplerOptions& d = values;
    const auto option = [&](const char* name, auto& value, const std::string& text) {
        app.add_option(name, value, text)->type_name("X")->group(kSamplingGroup);
    };
    const auto count = [&](const char* name, std::size_t& value, std::size_t high,
                           const std::string& text) {
        add_count(app, name, value, 0, high, text)->group(kSamplingGroup);
    };
    option("--temp", values.temperature,
           fmt::format("Temperature; 0 always takes the most likely token (default {})",
                       d.temperature));
    count("--top-k", values.top_k, kMaxTokens,
          fmt::format("Keep the N most likely tokens; 0: all (default {})", d.top_k));
    option("--typical", values.typical_p,
           fmt::format("Keep the X most typical of the probability; 1: off (default {})",
                       d.typical_p));
    option("--top-p", values.top_p,
           fmt::format("Keep the likeliest tokens that make up X; 1: off (default {})", d.top_p));
    option(
        "--min-p", values.min_p,
        fmt::format("Drop tokens below X times the likeliest one; 0: off (default {})", d.min_p));
    option("--repeat-penalty", values.repeat_penalty,
           fmt::format("Divide the logits of recent tokens by X; 1: off (default {})",
                       d.repeat_penalty));
    option("--presence-penalty", values.presence_penalty,
           fmt::format("Lower the logits of recent tokens by X (default {})", d.presence_penalty));
    option(
        "--frequency-penalty", values.frequency_penalty,
        fmt::format("The same, for each time that they occur (default {})", d.frequency_penalty));
    count("--repeat-last-n", values.penalty_last_n, engine::kMaxPenaltyHistory,
          fmt::format("Tokens that penalties look back on (default {})", d.penalty_last_n));
    app.add_option("--logit-bias", logit_bias,
                   "Add X to the logit of token ID; -inf bans it; repeatable")
        ->type_name("ID=X")
        ->allow_extra_args(false)  // the prompt may follow
        ->group(kSamplingGroup);
    add_seed(app, seed, "Makes a run repeatable; default: a new one each time")
        ->group(kSamplingGroup);
}

Result<engine::SamplerOptions> SamplingOptions::finish() const {
    engine::SamplerOptions options = values;
    for (const std::string& text : logit_bias) {
        const std::size_t sign = text.find('=');
        const std::string_view id_text = std::string_view(text).substr(0, sign);
        const std::string_view bias_text = sign == std::string::npos
                                               ? std::string_view()
                                               : std::string_view(text).substr(sign + 1);
        std::int32_t id = 0;
        float bias = 0;
        if (!parse_number(id_text, id) || !parse_number(bias_text, bias))
            return fail(ErrorCode::invalid_argument, "--logit-bias: '{}' is not of the form ID=X",
                        text);
        options.logit_bias[id] = bias;
    }
    if (seed) {
        options.seed = *seed;
    } else {
        std::random_device device;
        options.seed = device();  // 32 bits: short enough to be typed again
    }
    if (auto status = engine::validate(options, std::numeric_limits<std::int32_t>::max()); !status)
        return forward(status);
    return options;
}

Result<engine::SamplerOptions> SamplingOptions::with_suggestions(
    engine::SamplerOptions options, const engine::Engine& engine) const {
    auto suggested = engine::suggested_sampling(engine.file(), engine.options().context);
    if (!suggested) return forward(suggested);
    const auto fill = [&](const char* name, auto engine::SamplerOptions::*value) {
        if (app_->count(name) == 0) options.*value = (*suggested).*value;
    };
    fill("--temp", &engine::SamplerOptions::temperature);
    fill("--top-k", &engine::SamplerOptions::top_k);
    fill("--top-p", &engine::SamplerOptions::top_p);
    fill("--min-p", &engine::SamplerOptions::min_p);
    fill("--repeat-penalty", &engine::SamplerOptions::repeat_penalty);
    fill("--repeat-last-n", &engine::SamplerOptions::penalty_last_n);
    return options;
}

Result<std::vector<std::int64_t>> parse_list(std::string_view text, std::string_view what) {
    std::vector<std::int64_t> numbers;
    std::size_t begin = 0;
    while (begin <= text.size()) {
        std::size_t end = text.find_first_of(", \t\n\r", begin);
        if (end == std::string_view::npos) end = text.size();
        const std::string_view item = text.substr(begin, end - begin);
        begin = end + 1;
        if (item.empty()) continue;
        std::int64_t value = 0;
        if (!parse_number(item, value))
            return fail(ErrorCode::invalid_argument, "{}: '{}' is not a number", what, item);
        numbers.push_back(value);
    }
    if (numbers.empty()) return fail(ErrorCode::invalid_argument, "{}: no number given", what);
    return numbers;
}

Status at_most_one(std::initializer_list<std::pair<bool, const char*>> flags) {
    const char* first = nullptr;
    for (const auto& [set, name] : flags) {
        if (!set) continue;
        if (first != nullptr)
            return fail(ErrorCode::invalid_argument, "{} and {} exclude each other", first, name);
        first = name;
    }
    return {};
}

void set_load_way(engine::EngineOptions& options) {
    if (const char* load = std::getenv("UNICORN_LOAD"); load != nullptr && *load != '\0')
        options.load = load;
}

Result<std::unique_ptr<engine::Engine>> open_engine(const std::string& path,
                                                    const engine::EngineOptions& options) {
    auto model = resolve_model(path);
    if (!model) return forward(model);
    engine::EngineOptions chosen = options;
    set_load_way(chosen);
    const InterruptScope interrupt;
    auto engine = engine::Engine::open(*model, chosen, InterruptScope::requested);
    if (engine)
        for (const std::string& warning : (*engine)->warnings()) note("warning: {}", warning);
    return engine;
}

}  // namespace unicorn::cli
