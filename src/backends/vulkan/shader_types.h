// For parameter structs that C++ and GLSL share (*.params.h): in C++ a device address is a number,
// in a shader a reference to a buffer_reference type that the shader has defined.
#ifdef __cplusplus
#pragma once
#include <cstdint>
#define UNICORN_ADDRESS(type) std::uint64_t
#define UNICORN_UINT std::uint32_t
#define UNICORN_INT std::int32_t
#define UNICORN_FLOAT float
#define UNICORN_PARAMS_BEGIN namespace unicorn::backends::vulkan {
#define UNICORN_PARAMS_END }
#else
#extension GL_EXT_buffer_reference : require
#define UNICORN_ADDRESS(type) type
#define UNICORN_UINT uint
#define UNICORN_INT int
#define UNICORN_FLOAT float
#define UNICORN_PARAMS_BEGIN
#define UNICORN_PARAMS_END
#endif
