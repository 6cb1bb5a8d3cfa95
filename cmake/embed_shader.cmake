# cmake -DSPIRV=a.spv -DHEADER=a.comp.h -DSHADER=tier_read -P embed_shader.cmake
# Writes a header with the words of a SPIR-V file: unicorn::shaders::kTierRead.

file(READ "${SPIRV}" hex HEX)
string(REGEX REPLACE "(..)(..)(..)(..)" "0x\\4\\3\\2\\1," words "${hex}")
string(REGEX REPLACE "((0x........,)(0x........,)?(0x........,)?(0x........,)?(0x........,)?(0x........,)?(0x........,)?)"
  "    \\1\n" words "${words}")

string(REPLACE "_" ";" parts "${SHADER}")
set(name "k")
foreach(part IN LISTS parts)
  string(SUBSTRING "${part}" 0 1 first)
  string(SUBSTRING "${part}" 1 -1 rest)
  string(TOUPPER "${first}" first)
  string(APPEND name "${first}${rest}")
endforeach()

file(WRITE "${HEADER}" "#pragma once
// Made from ${SHADER}.comp by cmake/embed_shader.cmake.

#include <cstdint>

namespace unicorn::shaders {
inline constexpr std::uint32_t ${name}[] = {
${words}};
}  // namespace unicorn::shaders
")
