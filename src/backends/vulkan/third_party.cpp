// The bodies of the header-only libraries; compiled without warnings.
#define VOLK_IMPLEMENTATION
#define VMA_IMPLEMENTATION
#include "backends/vulkan/vma.h"
