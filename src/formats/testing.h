#pragma once
// For the tests of file formats, here and in tests/: a folder that goes away, and tiny contents.

#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "formats/vocabulary.h"

namespace unicorn::formats {

/// A fresh folder, removed with what is in it.
class TempFolder {
public:
    TempFolder() {
        std::string name =
            (std::filesystem::temp_directory_path() / "unicorn_test_XXXXXX").string();
        UNICORN_CHECK(mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~TempFolder() { std::filesystem::remove_all(path_); }
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;

    std::string path() const { return path_.string(); }
    std::string file(std::string_view name) const { return (path_ / name).string(); }

    /// Writes `bytes` to the file called `name` and returns its path.
    std::string write(std::string_view name, std::string_view bytes) const {
        std::ofstream out(file(name), std::ios::binary);
        out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        UNICORN_CHECK(out.good());
        return file(name);
    }

private:
    std::filesystem::path path_;
};

/// Six control and unknown pieces, the 256 bytes, and a few words: pad 0, eos 1, bos 2, unk 3,
/// <start_of_turn> 4, <end_of_turn> 5.
inline Vocabulary tiny_vocabulary() {
    Vocabulary vocabulary;
    for (const char* text :
         {"<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"}) {
        vocabulary.pieces.push_back({text, 0, PieceType::control});
    }
    vocabulary.pieces[3].type = PieceType::unknown;
    for (int byte = 0; byte < 256; ++byte) {
        constexpr char kHex[] = "0123456789ABCDEF";
        const std::string text = {'<', '0', 'x', kHex[byte / 16], kHex[byte % 16], '>'};
        vocabulary.pieces.push_back({text, 0, PieceType::byte});
    }
    float score = 0;
    for (const char* text : {"th", "the", "\u2581the", "\u2581", "t", "h", "e", "a", "\u00E9"}) {
        vocabulary.pieces.push_back({text, score, PieceType::normal});
        score -= 1;
    }
    vocabulary.pad = 0;
    vocabulary.eos = 1;
    vocabulary.bos = 2;
    vocabulary.unk = 3;
    vocabulary.stop_ids = {1, 5};
    vocabulary.chat_template = "{{ bos_token }}<start_of_turn>";
    return vocabulary;
}

/// `value`'s bytes as they lie.
template <typename T>
std::string raw(T value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

/// Collects tensors and gives the bytes of a .safetensors file.
class SafetensorsBuilder {
public:
    void add(std::string_view name, std::string_view dtype, const std::vector<std::uint64_t>& shape,
             std::string_view bytes) {
        header_ +=
            fmt::format("{}\"{}\":{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                        header_.empty() ? "" : ",", name, dtype, fmt::join(shape, ","),
                        data_.size(), data_.size() + bytes.size());
        data_ += bytes;
        names_.emplace_back(name);
    }
    std::string bytes() const { return bytes("{" + header_ + "}"); }
    /// The same data behind another header.
    std::string bytes(const std::string& header) const {
        return raw(std::uint64_t{header.size()}) + header + data_;
    }
    std::string header() const { return "{" + header_ + "}"; }
    const std::vector<std::string>& names() const { return names_; }

private:
    std::string header_;
    std::string data_;
    std::vector<std::string> names_;
};

/// A field of protobuf's wire format: a varint, or bytes with their length in front.
inline std::string proto_varint(std::uint64_t value) {
    std::string out;
    for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
    return out + static_cast<char>(value);
}
inline std::string proto_field(std::uint32_t number, std::uint64_t value) {
    return proto_varint(number << 3) + proto_varint(value);
}
inline std::string proto_field(std::uint32_t number, std::string_view bytes) {
    return proto_varint(number << 3 | 2) + proto_varint(bytes.size()) + std::string(bytes);
}

inline std::string proto_piece(const Piece& piece) {
    return proto_field(1, proto_field(1, piece.text) + proto_varint(2 << 3 | 5) + raw(piece.score) +
                              proto_field(3, static_cast<std::uint64_t>(piece.type)));
}

/// tokenizer.model's trainer_spec (BPE, tiny_vocabulary()'s ids) and normalizer_spec (identity).
inline std::string proto_specs() {
    return proto_field(2, proto_field(3, 2) + proto_field(40, 3) + proto_field(41, 2) +
                              proto_field(42, 1) + proto_field(43, 0)) +
           proto_field(3, proto_field(1, "identity") + proto_field(3, 0) + proto_field(4, 0) +
                              proto_field(5, 1));
}

inline std::string sentencepiece_bytes(const Vocabulary& vocabulary) {
    std::string out;
    for (const Piece& piece : vocabulary.pieces) out += proto_piece(piece);
    return out + proto_specs();
}

/// tokenizer.json with tiny_vocabulary()'s ids; its merges are t+h, th+e, U+2581+the.
inline std::string tokenizer_json_text(const Vocabulary& vocabulary) {
    std::string pieces;
    std::string added;
    for (std::size_t i = 0; i < vocabulary.pieces.size(); ++i) {
        const Piece& piece = vocabulary.pieces[i];
        pieces += fmt::format("{}\"{}\":{}", i == 0 ? "" : ",", piece.text, i);
        if (piece.type != PieceType::control && piece.type != PieceType::unknown) continue;
        added += fmt::format("{}{{\"id\":{},\"content\":\"{}\",\"special\":true}}",
                             i == 0 ? "" : ",", i, piece.text);
    }
    return fmt::format(
        "{{\"added_tokens\":[{}],\"normalizer\":{{\"type\":\"Replace\",\"pattern\":{{\"String\":\" "
        "\"}},\"content\":\"\u2581\"}},"
        "\"model\":{{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"byte_fallback\":true,\"vocab\":{{{}"
        "}},"
        "\"merges\":[[\"t\",\"h\"],\"th e\",[\"\u2581\",\"the\"]]}}}}",
        added, pieces);
}

/// A folder's worth of a Gemma 3 with D 64, F 96, H 2, K 1, E 32 and 3 layers. Weight i of each
/// tensor is a small number that differs from its neighbours'.
struct TinyModel {
    std::string prefix = "model.";
    std::uint64_t embedding_rows = 288;  // more than tiny_vocabulary()'s 271

    std::string config() const {
        return fmt::format(
            "{{\"model_type\":\"gemma3_text\",\"hidden_size\":64,\"intermediate_size\":96,\"num_"
            "hidden_layers\":3,"
            "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":32,\"vocab_size\":{},"
            "\"sliding_window\":16,"
            "\"sliding_window_pattern\":3,\"query_pre_attn_scalar\":48,\"max_position_embeddings\":"
            "128,"
            "\"rope_scaling\":{{\"rope_type\":\"linear\",\"factor\":8.0}},\"rope_local_base_freq\":"
            "20000.0,\"eos_token_id\":[1,5]}}",
            embedding_rows);
    }

    static float weight(std::size_t seed, std::size_t i) {
        return static_cast<float>(static_cast<int>((i * 37 + seed * 11) % 255) - 127) / 1024.0f;
    }
    static std::string weights(std::size_t seed, std::size_t n) {
        std::string bytes;
        for (std::size_t i = 0; i < n; ++i) bytes += raw(weight(seed, i));
        return bytes;
    }

    /// All tensors as f32; the k-th added has seed k.
    SafetensorsBuilder tensors() const {
        SafetensorsBuilder builder;
        const auto add = [&](const std::string& name, const std::vector<std::uint64_t>& shape) {
            std::uint64_t n = 1;
            for (const std::uint64_t dim : shape) n *= dim;
            builder.add(prefix + name, "F32", shape, weights(builder.names().size(), n));
        };
        add("embed_tokens.weight", {embedding_rows, 64});
        for (int i = 0; i < 3; ++i) add_layer(fmt::format("layers.{}.", i), add);
        add("norm.weight", {64});
        return builder;
    }

    template <typename Add>
    static void add_layer(const std::string& p, const Add& add) {
        add(p + "self_attn.q_proj.weight", {64, 64});
        add(p + "self_attn.k_proj.weight", {32, 64});
        add(p + "self_attn.v_proj.weight", {32, 64});
        add(p + "self_attn.o_proj.weight", {64, 64});
        add(p + "self_attn.q_norm.weight", {32});
        add(p + "self_attn.k_norm.weight", {32});
        add(p + "input_layernorm.weight", {64});
        add(p + "post_attention_layernorm.weight", {64});
        add(p + "pre_feedforward_layernorm.weight", {64});
        add(p + "post_feedforward_layernorm.weight", {64});
        add(p + "mlp.gate_proj.weight", {96, 64});
        add(p + "mlp.up_proj.weight", {96, 64});
        add(p + "mlp.down_proj.weight", {64, 96});
    }
};

}  // namespace unicorn::formats
