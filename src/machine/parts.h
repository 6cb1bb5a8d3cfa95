#pragma once
// The parts of detect(), each in the file that it names. Not for other folders.

#include <string>
#include <vector>

#include "machine/machine.h"
#include "machine/root.h"

namespace unicorn::machine {

Cpu detect_cpu(const Root& root, const std::string& root_path);  // detect_cpu.cpp
System detect_system(const Root& root);                          // detect_system.cpp
User detect_user(const Root& root);
Result<Memory> detect_memory(const Root& root);                    // detect_memory.cpp
std::vector<Gpu> detect_gpus(const Root& root, const User& user);  // detect_pci.cpp
std::vector<Npu> detect_npus(const Root& root, const User& user);
Disk detect_disk(const Root& root, const std::string& path);  // detect_disk.cpp
VulkanFacts installed_vulkan(const Root& root);               // detect_system.cpp

}  // namespace unicorn::machine
