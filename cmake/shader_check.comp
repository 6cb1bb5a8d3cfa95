#version 460
// Compiled by ShaderTools.cmake to see whether the shader compiler knows what our shaders need:
// cooperative matrices, buffer device addresses in push constants, 8-bit storage and the packed
// int8 dot product (an instruction of SPIR-V 1.6 that older GLSL front ends only reach this way).
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_shader_explicit_arithmetic_types : require
#extension GL_EXT_spirv_intrinsics : require

layout(local_size_x = 32) in;

layout(buffer_reference, std430, buffer_reference_align = 16) buffer Halves { float16_t at[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Bytes { int8_t at[]; };
layout(push_constant) uniform Params {
    Halves a, b;
    Floats out_tile;
    Bytes codes;
};

// OpSDot over four packed int8: capabilities DotProductInput4x8BitPacked and DotProduct.
spirv_instruction(capabilities = [6018, 6019], id = 4450)
int dot4(int x, int y, spirv_literal int packed_4x8);

void main() {
    coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> left;
    coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB> right;
    coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator> sum =
        coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>(0.0);
    coopMatLoad(left, a.at, 0, 16, gl_CooperativeMatrixLayoutRowMajor);
    coopMatLoad(right, b.at, 0, 16, gl_CooperativeMatrixLayoutColumnMajor);
    sum = coopMatMulAdd(left, right, sum);
    coopMatStore(sum, out_tile.at, 0, 16, gl_CooperativeMatrixLayoutRowMajor);

    const int word = pack32(i8vec4(codes.at[0], codes.at[1], codes.at[2], codes.at[3]));
    out_tile.at[256] = float(dot4(word, word, 0));
}
