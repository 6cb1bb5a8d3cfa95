// unicorn logits: what the model computes, for comparison with other implementations.

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "base/file.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/prompt.h"
#include "cli/table.h"
#include "cli/terminal.h"

namespace unicorn::cli {
namespace {

using Json = nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little, "--out writes f32 as they lie in memory");

struct Ranked {
    std::int32_t id;
    float logit;
};

// The place of the first NaN or infinity.
std::optional<std::size_t> first_not_finite(std::span<const float> logits) {
    const auto at = std::find_if(logits.begin(), logits.end(),
                                 [](float logit) { return !std::isfinite(logit); });
    if (at == logits.end()) return std::nullopt;
    return static_cast<std::size_t>(at - logits.begin());
}

// The `count` best of finite logits, best first.
std::vector<Ranked> best(std::span<const float> logits, std::size_t count) {
    std::vector<std::int32_t> ids(logits.size());
    std::iota(ids.begin(), ids.end(), 0);
    const auto end = ids.begin() + static_cast<std::ptrdiff_t>(std::min(count, ids.size()));
    std::partial_sort(ids.begin(), end, ids.end(), [&](std::int32_t a, std::int32_t b) {
        const float x = logits[static_cast<std::size_t>(a)],
                    y = logits[static_cast<std::size_t>(b)];
        return x > y || (x == y && a < b);
    });
    std::vector<Ranked> ranked;
    for (auto it = ids.begin(); it != end; ++it)
        ranked.push_back({*it, logits[static_cast<std::size_t>(*it)]});
    return ranked;
}

Json as_json(const std::vector<Ranked>& ranked) {
    Json list = Json::array();
    for (const auto& entry : ranked) list.push_back({{"id", entry.id}, {"logit", entry.logit}});
    return list;
}

class LogitsCommand : public Command {
public:
    explicit LogitsCommand(CLI::App& parent) {
        app = parent.add_subcommand(
            "logits",
            "Show the logits that follow a list of token ids\n\n"
            "The ids are taken as they are: nothing is put in front of them. By default the ten "
            "best\n"
            "continuations of the last position are shown; --out writes all of its logits as\n"
            "little-endian f32, and --all those of every position, [positions, vocabulary].");
        app->add_option("--tokens", tokens_, "Ids, separated by commas")
            ->type_name("IDS")
            ->required();
        add_model_option(*app, model_);
        add_count(*app, "--top", top_, 1, kMaxTokens, "How many of the best to show (default 10)")
            ->type_name("K");
        app->add_flag("--json", json_,
                      "Print {\"n_vocab\": V, \"top\": [{\"id\", \"logit\"}...]};\nwith --all also "
                      "\"positions\"");
        app->add_option("--out", out_, "Write the logits to a file instead of a table")
            ->type_name("FILE");
        app->add_flag("--all", all_, "Every position instead of the last one");
        add_engine_options(*app, engine_);
        app->footer(
            "Examples:\n"
            "  unicorn logits --tokens 2,105,2364 --top 5\n"
            "  unicorn logits --tokens $(unicorn tokenize \"Once upon a\" | tr ' ' ,) --json\n"
            "  unicorn logits --tokens 2,105,2364 --all --out logits.f32");
    }

    Result<int> run() override {
        auto numbers = parse_list(tokens_, "--tokens");
        if (!numbers) return forward(numbers);
        if (engine_.context == 0) engine_.context = numbers->size();
        auto engine = open_engine(model_, engine_);
        if (!engine) return forward(engine);
        std::vector<std::int32_t> ids;
        for (const std::int64_t number : *numbers) {
            if (number < 0 || static_cast<std::uint64_t>(number) >= (*engine)->config().n_vocab) {
                return fail(ErrorCode::invalid_argument,
                            "--tokens: id {} is outside the vocabulary of {}", number,
                            (*engine)->config().n_vocab);
            }
            ids.push_back(static_cast<std::int32_t>(number));
        }
        auto sequence = (*engine)->create_sequence();
        if (!sequence) return forward(sequence);
        std::optional<FileWriter> file;
        if (!out_.empty()) {
            auto created = FileWriter::create(out_);
            if (!created) return forward(created);
            file = std::move(*created);
        }

        std::string text;
        Json positions = Json::array(), last;
        Status written;
        PromptProgress progress(*sequence, ids.size());
        const auto take = [&](std::size_t, std::size_t position, std::span<const float> logits) {
            if (!written) return;
            if (const auto at = first_not_finite(logits)) {
                written = fail(ErrorCode::invalid_file,
                               "{}: the model's output at position {} is not finite: logit {} of "
                               "token {}",
                               (*engine)->file().path(), position, logits[*at], *at);
                return;
            }
            if (file) written = file->write(std::as_bytes(logits));
            const auto ranked = best(logits, top_);
            if (json_) {
                last = as_json(ranked);
                if (all_) positions.push_back({{"position", position}, {"top", last}});
            } else if (!file) {
                text += table(**engine, position, ranked);
            }
        };
        const engine::Input input{&*sequence, ids,
                                  all_ ? engine::Logits::all : engine::Logits::last};
        const InterruptScope interrupt;
        auto status = (*engine)->evaluate({&input, 1}, take, [&] {
            progress.update();
            return !written || InterruptScope::requested();
        });
        progress.clear();
        if (!written) return forward(written);
        if (!status && status.error().code == ErrorCode::cancelled) return kInterrupted;
        if (!status) return forward(status);
        if (file) {
            if (auto s = file->commit(); !s) return forward(s);
        }
        if (json_) {
            Json out;
            out["n_vocab"] = (*engine)->n_vocab();
            out["top"] = std::move(last);
            if (all_) out["positions"] = std::move(positions);
            text = out.dump() + "\n";
        }
        if (auto s = write_out(text); !s) return forward(s);
        return kSuccess;
    }

private:
    std::string table(const engine::Engine& engine, std::size_t position,
                      const std::vector<Ranked>& ranked) const {
        std::vector<std::vector<std::string>> rows{{"id", "logit", "piece"}};
        for (const auto& entry : ranked)
            rows.push_back({fmt::format("{}", entry.id), fmt::format("{:.4f}", entry.logit),
                            engine.tokenizer().piece(entry.id)});
        const std::string heading =
            all_ ? fmt::format("{}position {}\n", position == 0 ? "" : "\n", position) : "";
        return heading +
               aligned_table(rows, {Align::right, Align::right, Align::left}, colour_wanted(1));
    }

    std::string tokens_, model_, out_;
    std::size_t top_ = 10;
    bool json_ = false, all_ = false;
    engine::EngineOptions engine_;
};

}  // namespace

std::unique_ptr<Command> add_logits(CLI::App& parent) {
    return std::make_unique<LogitsCommand>(parent);
}

}  // namespace unicorn::cli
