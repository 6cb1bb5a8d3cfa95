#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_spirv_intrinsics : require
#define DOT4
#define CACHES
#include "backends/vulkan/matvec.glsl"
