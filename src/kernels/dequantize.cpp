#include "kernels/dequantize.h"

#include <cstring>

#include "base/check.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

namespace unicorn::kernels {
namespace {

using namespace tensor;

// One block each: `y` receives the block's weights in order. Products are formed in the order
// that ggml forms them, (d * scale) * q, so that every bit of the result agrees with it.

void decode(const BlockQ4_0& b, float* y) {
    const float d = f16_to_f32(b.d);
    for (int j = 0; j < 16; ++j) {
        y[j] = d * static_cast<float>((b.qs[j] & 15) - 8);
        y[j + 16] = d * static_cast<float>((b.qs[j] >> 4) - 8);
    }
}

void decode(const BlockQ4_1& b, float* y) {
    const float d = f16_to_f32(b.d);
    const float m = f16_to_f32(b.m);
    for (int j = 0; j < 16; ++j) {
        y[j] = d * static_cast<float>(b.qs[j] & 15) + m;
        y[j + 16] = d * static_cast<float>(b.qs[j] >> 4) + m;
    }
}

void decode(const BlockQ5_0& b, float* y) {
    const float d = f16_to_f32(b.d);
    for (unsigned j = 0; j < 16; ++j) {
        const unsigned high_0 = ((b.qh >> j) & 1u) << 4;
        const unsigned high_1 = ((b.qh >> (j + 16)) & 1u) << 4;
        y[j] = d * static_cast<float>(static_cast<int>((b.qs[j] & 15u) | high_0) - 16);
        y[j + 16] = d * static_cast<float>(static_cast<int>((b.qs[j] >> 4) | high_1) - 16);
    }
}

void decode(const BlockQ5_1& b, float* y) {
    const float d = f16_to_f32(b.d);
    const float m = f16_to_f32(b.m);
    for (unsigned j = 0; j < 16; ++j) {
        const unsigned high_0 = ((b.qh >> j) & 1u) << 4;
        const unsigned high_1 = ((b.qh >> (j + 16)) & 1u) << 4;
        y[j] = d * static_cast<float>((b.qs[j] & 15u) | high_0) + m;
        y[j + 16] = d * static_cast<float>((b.qs[j] >> 4) | high_1) + m;
    }
}

void decode(const BlockQ8_0& b, float* y) {
    const float d = f16_to_f32(b.d);
    for (int j = 0; j < 32; ++j) y[j] = d * static_cast<float>(b.qs[j]);
}

void decode(const BlockIQ4_NL& b, float* y) {
    const float d = f16_to_f32(b.d);
    for (int j = 0; j < 16; ++j) {
        y[j] = d * static_cast<float>(kIQ4Values[b.qs[j] & 15]);
        y[j + 16] = d * static_cast<float>(kIQ4Values[b.qs[j] >> 4]);
    }
}

void decode(const BlockQ2_K& b, float* y) {
    const float d = f16_to_f32(b.d);
    const float dmin = f16_to_f32(b.dmin);
    for (int i = 0; i < 256; ++i) {
        const int half = i / 128;
        const int shift = 2 * (i / 32 % 4);
        const int q = (b.qs[half * 32 + i % 32] >> shift) & 3;
        const std::uint8_t scale = b.scales[i / 16];
        const float step = d * static_cast<float>(scale & 15);
        const float min = dmin * static_cast<float>(scale >> 4);
        y[i] = step * static_cast<float>(q) - min;
    }
}

void decode(const BlockQ3_K& b, float* y) {
    const float d = f16_to_f32(b.d);
    for (int i = 0; i < 256; ++i) {
        const int half = i / 128;
        const int shift = 2 * (i / 32 % 4);
        const int low = (b.qs[half * 32 + i % 32] >> shift) & 3;
        const int high = (b.hmask[i % 32] >> (i / 32)) & 1;
        const float step = d * static_cast<float>(q3_k_scale(b.scales, i / 16) - 32);
        y[i] = step * static_cast<float>((low | (high << 2)) - 4);
    }
}

void decode(const BlockQ4_K& b, float* y) {
    const float d = f16_to_f32(b.d);
    const float dmin = f16_to_f32(b.dmin);
    for (int group = 0; group < 8; ++group) {
        const ScaleMin s = q4_k_scale(b.scales, group);
        const float step = d * static_cast<float>(s.scale);
        const float min = dmin * static_cast<float>(s.min);
        const std::uint8_t* qs = b.qs + group / 2 * 32;
        for (int l = 0; l < 32; ++l) {
            const int q = (qs[l] >> (4 * (group % 2))) & 15;
            y[group * 32 + l] = step * static_cast<float>(q) - min;
        }
    }
}

void decode(const BlockQ5_K& b, float* y) {
    const float d = f16_to_f32(b.d);
    const float dmin = f16_to_f32(b.dmin);
    for (int group = 0; group < 8; ++group) {
        const ScaleMin s = q4_k_scale(b.scales, group);
        const float step = d * static_cast<float>(s.scale);
        const float min = dmin * static_cast<float>(s.min);
        const std::uint8_t* qs = b.qs + group / 2 * 32;
        for (int l = 0; l < 32; ++l) {
            const int low = (qs[l] >> (4 * (group % 2))) & 15;
            const int high = (b.qh[l] >> group) & 1;
            y[group * 32 + l] = step * static_cast<float>(low | (high << 4)) - min;
        }
    }
}

void decode(const BlockQ6_K& b, float* y) {
    const float d = f16_to_f32(b.d);
    for (int i = 0; i < 256; ++i) {
        const int half = i / 128;
        const int s = i / 32 % 4;
        const int l = i % 32;
        const int low = (b.ql[half * 64 + s % 2 * 32 + l] >> (4 * (s / 2))) & 15;
        const int high = (b.qh[half * 32 + l] >> (2 * s)) & 3;
        const int group = i / 16;
        const float step = d * static_cast<float>(b.scales[group]);
        y[i] = step * static_cast<float>((low | (high << 4)) - 32);
    }
}

void decode(const BlockIQ4_XS& b, float* y) {
    const float d = f16_to_f32(b.d);
    for (int group = 0; group < 8; ++group) {
        const float step = d * static_cast<float>(iq4_xs_scale(b, group) - 32);
        const std::uint8_t* qs = b.qs + group * 16;
        for (int j = 0; j < 16; ++j) {
            y[group * 32 + j] = step * static_cast<float>(kIQ4Values[qs[j] & 15]);
            y[group * 32 + j + 16] = step * static_cast<float>(kIQ4Values[qs[j] >> 4]);
        }
    }
}

template <typename Block>
void decode_row(const std::byte* blocks, std::span<float> out) {
    const std::size_t block_size = info(Block::kType).block_size;
    UNICORN_CHECK(out.size() % block_size == 0);
    for (std::size_t i = 0; i < out.size() / block_size; ++i) {
        decode(load_block<Block>(blocks, i), out.data() + i * block_size);
    }
}

template <float (*convert)(std::uint16_t)>
void decode_halves(const std::byte* halves, std::span<float> out) {
    for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = convert(load_block<std::uint16_t>(halves, i));
}

}  // namespace

void dequantize_row(DType type, const std::byte* blocks, std::span<float> out) {
    switch (type) {
        case DType::f32:
            if (!out.empty()) std::memcpy(out.data(), blocks, out.size_bytes());
            return;
        case DType::f16: return decode_halves<f16_to_f32>(blocks, out);
        case DType::bf16: return decode_halves<bf16_to_f32>(blocks, out);
        case DType::q4_0: return decode_row<BlockQ4_0>(blocks, out);
        case DType::q4_1: return decode_row<BlockQ4_1>(blocks, out);
        case DType::q5_0: return decode_row<BlockQ5_0>(blocks, out);
        case DType::q5_1: return decode_row<BlockQ5_1>(blocks, out);
        case DType::q8_0: return decode_row<BlockQ8_0>(blocks, out);
        case DType::q2_k: return decode_row<BlockQ2_K>(blocks, out);
        case DType::q3_k: return decode_row<BlockQ3_K>(blocks, out);
        case DType::q4_k: return decode_row<BlockQ4_K>(blocks, out);
        case DType::q5_k: return decode_row<BlockQ5_K>(blocks, out);
        case DType::q6_k: return decode_row<BlockQ6_K>(blocks, out);
        case DType::iq4_nl: return decode_row<BlockIQ4_NL>(blocks, out);
        case DType::iq4_xs: return decode_row<BlockIQ4_XS>(blocks, out);
    }
    UNICORN_CHECK(false && "a DType outside its enumerators");
}

}  // namespace unicorn::kernels
