#pragma once
// What a benchmark was run on, so that its numbers can be compared with others.

#include <cstddef>
#include <cstdint>
#include <string>

#include "formats/gguf.h"

namespace unicorn::cli {

struct MachineInfo {
    std::string cpu;       // "AMD Ryzen 9 8945HS"
    std::size_t cpus = 0;  // that this process may use
    std::uint64_t memory_bytes = 0;
    std::string os;  // kernel and release
    std::string compiler;
};
MachineInfo machine_info();

struct ModelInfo {
    std::string name;              // general.name, or the file's name
    std::uint64_t file_bytes = 0;  // of all files
    std::uint64_t parameters = 0;
    std::string types;  // by bytes: "q4_0 78 %, q6_k 22 %"
};
ModelInfo model_info(const formats::Gguf& file);

}  // namespace unicorn::cli
