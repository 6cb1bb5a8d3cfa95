// unicorn tokenize: text to ids and back, with nothing but a vocabulary.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/model_path.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "formats/gguf.h"
#include "text/tokenizer.h"

namespace unicorn::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxInput = std::size_t{1} << 30;

class TokenizeCommand : public Command {
public:
    explicit TokenizeCommand(CLI::App& parent) {
        app = parent.add_subcommand(
            "tokenize",
            "Turn text into token ids, or ids into text\n\n"
            "The ids go to standard output in one line. Only the vocabulary of the file is used, "
            "so a\n"
            "GGUF without weights serves too. Text is taken as it is: control tokens such as\n"
            "<end_of_turn> count as text unless --special is given.");
        app->add_option("TEXT", words_,
                        "The text, or with --decode the ids; - reads standard input");
        add_model_option(*app, model_);
        app->add_flag("--json", json_,
                      "Print {\"ids\": [...], \"pieces\": [...]}; with --decode {\"text\": ...}");
        app->add_flag("--no-bos", no_bos_, "Do not put the beginning-of-text token in front");
        app->add_flag("--special", special_,
                      "Recognise control tokens in the text; show them when decoding");
        app->add_flag("--decode", decode_,
                      "The way back: ids, separated by spaces or commas, to text");
        app->footer(
            "Examples:\n"
            "  unicorn tokenize \"Hello, world\"\n"
            "  unicorn tokenize --json \"Hello, world\"\n"
            "  unicorn tokenize --no-bos - < story.txt | wc -w\n"
            "  unicorn tokenize \"Hello, world\" | unicorn tokenize --decode -");
    }

    Result<int> run() override {
        if (words_.empty())
            return fail(ErrorCode::invalid_argument, "no {} given; - reads standard input",
                        decode_ ? "ids" : "text");
        auto path = resolve_model(model_);
        if (!path) return forward(path);
        auto file = formats::Gguf::open(*path);
        if (!file) return forward(file);
        auto vocabulary = formats::read_vocabulary(*file);
        if (!vocabulary) return forward(vocabulary);
        auto tokenizer = text::Tokenizer::create(*vocabulary);
        if (!tokenizer) return forward(tokenizer);

        std::string input = fmt::format("{}", fmt::join(words_, " "));
        if (input == "-") {
            auto read = read_standard_input(kMaxInput);
            if (!read) return forward(read);
            input = std::move(*read);
        }
        auto output = decode_ ? decode(*tokenizer, input) : encode(*tokenizer, input);
        if (!output) return forward(output);
        if (auto status = write_out(*output); !status) return forward(status);
        return kSuccess;
    }

private:
    Result<std::string> encode(const text::Tokenizer& tokenizer, const std::string& input) const {
        const bool bos = !no_bos_ && tokenizer.wants_bos();
        const auto ids = tokenizer.encode(input, {.add_bos = bos, .parse_control = special_});
        if (!json_) return fmt::format("{}\n", fmt::join(ids, " "));
        Json out;
        out["ids"] = ids;
        out["pieces"] = Json::array();
        for (const std::int32_t id : ids) out["pieces"].push_back(tokenizer.piece(id));
        return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    }

    // Without --json the bytes come as they are; only a terminal gets a newline that the ids do not
    // hold.
    Result<std::string> decode(const text::Tokenizer& tokenizer, const std::string& input) const {
        auto numbers = parse_list(input, "ids");
        if (!numbers) return forward(numbers);
        std::vector<std::int32_t> ids;
        for (const std::int64_t number : *numbers) {
            if (number < 0 || static_cast<std::uint64_t>(number) >= tokenizer.size()) {
                return fail(ErrorCode::invalid_argument,
                            "id {} is outside the vocabulary of {} pieces", number,
                            tokenizer.size());
            }
            ids.push_back(static_cast<std::int32_t>(number));
        }
        std::string text = tokenizer.decode(ids, {.show_control = special_});
        if (!json_) return is_terminal(1) ? text + "\n" : text;
        Json out;
        out["text"] = text;
        return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    }

    std::vector<std::string> words_;
    std::string model_;
    bool json_ = false, no_bos_ = false, special_ = false, decode_ = false;
};

}  // namespace

std::unique_ptr<Command> add_tokenize(CLI::App& parent) {
    return std::make_unique<TokenizeCommand>(parent);
}

}  // namespace unicorn::cli
