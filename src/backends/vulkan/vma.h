#pragma once
// AMD's memory allocator, with its functions looked up at run time.

#define VMA_STATIC_VULKAN_FUNCTIONS 0   // NOLINT(readability-identifier-naming): VMA's own names
#define VMA_DYNAMIC_VULKAN_FUNCTIONS 1  // NOLINT(readability-identifier-naming)
#define VMA_VULKAN_VERSION 1003000      // NOLINT(readability-identifier-naming)
#include "backends/vulkan/volk.h"
//
#include <vk_mem_alloc.h>
