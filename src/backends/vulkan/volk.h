#pragma once
// Vulkan's types and volk's function pointers. The loader is opened at run time
// (VulkanInstance::open), never linked: the program starts where there is none.

#include <volk.h>
