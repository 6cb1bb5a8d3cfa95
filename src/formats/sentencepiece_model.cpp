// tokenizer.model: protobuf's wire format, read field by field, and the few fields we need.
// Source: protobuf.dev/programming-guides/encoding.

#include <bit>
#include <cstring>
#include <optional>

#include "base/file.h"
#include "formats/tokenizer_files.h"
#include "formats/utf8.h"
#include "formats/vocabulary_checks.h"

namespace unicorn::formats {
namespace {

constexpr std::size_t kMaxModelBytes = 32u << 20;  // Gemma 3's has 4.7 MB

enum class WireType : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

struct Field {
    std::uint64_t number = 0;
    WireType type = WireType::varint;
    std::uint64_t integer = 0;         // varint, fixed64, fixed32
    std::span<const std::byte> bytes;  // bytes
    std::size_t at = 0;                // where the field begins in the file
};

/// The fields of one message.
class Message {
public:
    /// `origin`: where `bytes` begin in the file, for error messages.
    Message(const std::string& name, std::span<const std::byte> bytes, std::size_t origin)
        : name_(name), bytes_(bytes), origin_(origin) {}

    bool done() const { return at_ == bytes_.size(); }

    Result<Field> next() {
        Field field;
        field.at = origin_ + at_;
        std::uint64_t tag = 0;
        if (!varint(tag))
            return bad(field.at, "a field's tag is cut short or longer than 10 bytes");
        field.number = tag >> 3;
        const auto wire = static_cast<std::uint8_t>(tag & 7);
        if (field.number == 0 || field.number > 0x1FFFFFFF)
            return bad(field.at, "field number {} is not valid", field.number);
        switch (wire) {
            case 0:
                if (!varint(field.integer))
                    return bad(field.at,
                               "the varint of field {} is cut short or longer than 10 bytes",
                               field.number);
                break;
            case 1:
            case 5: {
                const std::size_t size = wire == 1 ? 8 : 4;
                if (bytes_.size() - at_ < size)
                    return bad(field.at, "field {} needs {} bytes, but {} remain", field.number,
                               size, bytes_.size() - at_);
                std::memcpy(&field.integer, bytes_.data() + at_, size);
                at_ += size;
                break;
            }
            case 2: {
                std::uint64_t length = 0;
                if (!varint(length))
                    return bad(field.at,
                               "the length of field {} is cut short or longer than 10 bytes",
                               field.number);
                if (length > bytes_.size() - at_) {
                    return bad(field.at, "field {} has a length of {} bytes, but {} remain",
                               field.number, length, bytes_.size() - at_);
                }
                field.bytes = bytes_.subspan(at_, length);
                at_ += length;
                break;
            }
            default:
                return bad(field.at, "field {} has wire type {}, expected 0, 1, 2 or 5",
                           field.number, wire);
        }
        field.type = static_cast<WireType>(wire);
        return field;
    }

    template <typename... Args>
    tl::unexpected<Error> bad(std::size_t at, fmt::format_string<Args...> format,
                              Args&&... args) const {
        return fail(ErrorCode::invalid_file, "{}: byte {}: {}", name_, at,
                    fmt::format(format, std::forward<Args>(args)...));
    }

    /// The message in `field`, which must be of wire type bytes.
    Result<Message> inner(const Field& field, std::string_view what) const {
        if (field.type != WireType::bytes) return wrong_type(field, what);
        return Message(name_, field.bytes,
                       origin_ + static_cast<std::size_t>(field.bytes.data() - bytes_.data()));
    }

    tl::unexpected<Error> wrong_type(const Field& field, std::string_view what) const {
        return bad(field.at, "{} has wire type {}", what, static_cast<int>(field.type));
    }

private:
    bool varint(std::uint64_t& value) {
        value = 0;
        for (int shift = 0; shift < 70 && at_ < bytes_.size(); shift += 7) {
            const auto byte = static_cast<std::uint64_t>(bytes_[at_++]);
            if (shift == 63 && byte > 1) return false;
            value |= (byte & 0x7F) << shift;
            if (byte < 0x80) return true;
        }
        return false;
    }

    const std::string& name_;
    std::span<const std::byte> bytes_;
    std::size_t origin_;
    std::size_t at_ = 0;
};

struct TrainerSpec {
    std::int64_t model_type = 1;  // UNIGRAM; BPE is 2
    std::int64_t unk = 0, bos = 1, eos = 2, pad = -1;
};

struct NormalizerSpec {
    std::size_t charsmap_bytes = 0;
    bool add_dummy_prefix = true;
    bool remove_extra_whitespaces = true;
    bool escape_whitespaces = true;
};

Result<Piece> parse_piece(Message message, std::size_t index) {
    Piece piece;
    while (!message.done()) {
        auto field = message.next();
        if (!field) return forward(field);
        if (field->number == 1) {
            if (field->type != WireType::bytes)
                return message.wrong_type(*field, fmt::format("piece {}'s text", index));
            const std::string_view text(reinterpret_cast<const char*>(field->bytes.data()),
                                        field->bytes.size());
            if (!valid_utf8(text))
                return message.bad(field->at, "piece {} is not UTF-8: {}", index, shown(text));
            piece.text = text;
        } else if (field->number == 2) {
            if (field->type != WireType::fixed32)
                return message.wrong_type(*field, fmt::format("piece {}'s score", index));
            piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field->integer));
        } else if (field->number == 3) {
            if (field->type != WireType::varint)
                return message.wrong_type(*field, fmt::format("piece {}'s type", index));
            const auto type = piece_type(static_cast<std::int64_t>(field->integer));
            if (!type)
                return message.bad(field->at, "piece {} has type {}, expected 1 to 6", index,
                                   field->integer);
            piece.type = *type;
        }
    }
    return piece;
}

Status parse_trainer_spec(Message message, TrainerSpec& spec) {
    while (!message.done()) {
        auto field = message.next();
        if (!field) return forward(field);
        std::int64_t* target = field->number == 3    ? &spec.model_type
                               : field->number == 40 ? &spec.unk
                               : field->number == 41 ? &spec.bos
                               : field->number == 42 ? &spec.eos
                               : field->number == 43 ? &spec.pad
                                                     : nullptr;
        if (target == nullptr) continue;
        if (field->type != WireType::varint)
            return message.wrong_type(*field,
                                      fmt::format("trainer_spec's field {}", field->number));
        *target = static_cast<std::int64_t>(field->integer);  // negative numbers take all 64 bits
    }
    return {};
}

Status parse_normalizer_spec(Message message, NormalizerSpec& spec) {
    while (!message.done()) {
        auto field = message.next();
        if (!field) return forward(field);
        if (field->number == 2 && field->type == WireType::bytes)
            spec.charsmap_bytes = field->bytes.size();
        bool* target = field->number == 3   ? &spec.add_dummy_prefix
                       : field->number == 4 ? &spec.remove_extra_whitespaces
                       : field->number == 5 ? &spec.escape_whitespaces
                                            : nullptr;
        if (target == nullptr) continue;
        if (field->type != WireType::varint)
            return message.wrong_type(*field,
                                      fmt::format("normalizer_spec's field {}", field->number));
        *target = field->integer != 0;
    }
    return {};
}

}  // namespace

Result<Vocabulary> parse_sentencepiece_model(const std::string& name,
                                             std::span<const std::byte> bytes) {
    Vocabulary vocabulary;
    TrainerSpec trainer;
    NormalizerSpec normalizer;
    bool has_trainer = false;
    bool has_normalizer = false;
    Message model(name, bytes, 0);
    while (!model.done()) {
        auto field = model.next();
        if (!field) return forward(field);
        if (field->number < 1 || field->number > 3) continue;
        auto message = model.inner(*field, fmt::format("field {}", field->number));
        if (!message) return forward(message);
        if (field->number == 1) {
            if (vocabulary.pieces.size() == kMaxPieces)
                return model.bad(field->at, "more than {} pieces", kMaxPieces);
            auto piece = parse_piece(*message, vocabulary.pieces.size());
            if (!piece) return forward(piece);
            if (piece->text == "<start_of_turn>" || piece->text == "<end_of_turn>")
                piece->type = PieceType::control;
            vocabulary.pieces.push_back(std::move(*piece));
        } else if (field->number == 2) {
            has_trainer = true;
            if (auto status = parse_trainer_spec(*message, trainer); !status)
                return forward(status);
        } else {
            has_normalizer = true;
            if (auto status = parse_normalizer_spec(*message, normalizer); !status)
                return forward(status);
        }
    }
    if (vocabulary.pieces.empty() || !has_trainer || !has_normalizer) {
        return fail(ErrorCode::invalid_file,
                    "{}: not a SentencePiece model, or cut short: it has {} pieces, {} "
                    "trainer_spec and {} normalizer_spec",
                    name, vocabulary.pieces.size(), has_trainer ? "a" : "no",
                    has_normalizer ? "a" : "no");
    }
    if (trainer.model_type != 2) {
        return fail(ErrorCode::unsupported, "{}: trainer_spec.model_type is {}, expected 2 (BPE)",
                    name, trainer.model_type);
    }
    if (normalizer.charsmap_bytes > 0 || normalizer.remove_extra_whitespaces ||
        !normalizer.escape_whitespaces) {
        return fail(
            ErrorCode::unsupported,
            "{}: normalizer_spec changes the text (character map of {} bytes, "
            "remove_extra_whitespaces {}, escape_whitespaces {}), expected none, false and true",
            name, normalizer.charsmap_bytes, normalizer.remove_extra_whitespaces,
            normalizer.escape_whitespaces);
    }
    if (auto status = check_pieces(name, vocabulary.pieces); !status) return forward(status);
    const struct {
        std::string_view name;
        std::int64_t id;
        std::optional<std::int32_t>& out;
    } ids[] = {{"unk_id", trainer.unk, vocabulary.unk},
               {"bos_id", trainer.bos, vocabulary.bos},
               {"eos_id", trainer.eos, vocabulary.eos},
               {"pad_id", trainer.pad, vocabulary.pad}};
    for (const auto& [key, id, out] : ids) {
        if (id < 0) continue;  // not defined
        if (id >= static_cast<std::int64_t>(vocabulary.pieces.size())) {
            return fail(ErrorCode::invalid_file,
                        "{}: trainer_spec.{} is {}, but there are {} pieces", name, key, id,
                        vocabulary.pieces.size());
        }
        out = static_cast<std::int32_t>(id);
    }
    vocabulary.add_bos = vocabulary.bos.has_value();
    vocabulary.add_space_prefix = normalizer.add_dummy_prefix;
    add_named_stop_ids(vocabulary);
    return vocabulary;
}

Result<Vocabulary> read_sentencepiece_model(const std::string& path) {
    auto file = MappedFile::open(path);
    if (!file) return forward(file);
    if (file->bytes().size() > kMaxModelBytes) {
        return fail(ErrorCode::invalid_file, "{}: {} bytes, expected at most {}", path,
                    file->bytes().size(), kMaxModelBytes);
    }
    auto vocabulary = parse_sentencepiece_model(path, file->bytes());
    if (auto status = file->unchanged(); !status) return forward(status);
    return vocabulary;
}

}  // namespace unicorn::formats
