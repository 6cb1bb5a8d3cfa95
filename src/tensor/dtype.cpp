#include "tensor/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/check.h"

namespace unicorn::tensor {
namespace {

constexpr std::array kTypes = {
    DTypeInfo{DType::f32, "f32", 1, 4, false},
    DTypeInfo{DType::f16, "f16", 1, 2, false},
    DTypeInfo{DType::q4_0, "q4_0", 32, 18, true},
    DTypeInfo{DType::q4_1, "q4_1", 32, 20, true},
    DTypeInfo{DType::q5_0, "q5_0", 32, 22, true},
    DTypeInfo{DType::q5_1, "q5_1", 32, 24, true},
    DTypeInfo{DType::q8_0, "q8_0", 32, 34, true},
    DTypeInfo{DType::q2_k, "q2_k", 256, 84, true},
    DTypeInfo{DType::q3_k, "q3_k", 256, 110, true},
    DTypeInfo{DType::q4_k, "q4_k", 256, 144, true},
    DTypeInfo{DType::q5_k, "q5_k", 256, 176, true},
    DTypeInfo{DType::q6_k, "q6_k", 256, 210, true},
    DTypeInfo{DType::iq4_nl, "iq4_nl", 32, 18, true},
    DTypeInfo{DType::iq4_xs, "iq4_xs", 256, 136, true},
    DTypeInfo{DType::bf16, "bf16", 1, 2, false},
};

}  // namespace

std::span<const DTypeInfo> all_dtypes() { return kTypes; }

const DTypeInfo& info(DType type) {
    const auto* entry = std::ranges::find(kTypes, type, &DTypeInfo::type);
    UNICORN_CHECK(entry != kTypes.end());
    return *entry;
}

std::optional<DType> dtype_from_id(std::uint32_t id) {
    const auto* entry = std::ranges::find(kTypes, static_cast<DType>(id), &DTypeInfo::type);
    if (entry == kTypes.end()) return std::nullopt;
    return entry->type;
}

std::optional<DType> dtype_from_name(std::string_view text) {
    const auto same = [&](const DTypeInfo& entry) {
        return std::ranges::equal(entry.name, text, [](char a, char b) {
            return a == std::tolower(static_cast<unsigned char>(b));
        });
    };
    const auto* entry = std::ranges::find_if(kTypes, same);
    if (entry == kTypes.end()) return std::nullopt;
    return entry->type;
}

std::size_t row_bytes(DType type, std::size_t cols) {
    const DTypeInfo& entry = info(type);
    UNICORN_DCHECK(cols % entry.block_size == 0);
    return cols / entry.block_size * entry.block_bytes;
}

}  // namespace unicorn::tensor
