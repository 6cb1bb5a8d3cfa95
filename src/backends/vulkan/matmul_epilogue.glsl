// What becomes of a product before it is written. Include it after defining EPILOGUE, a constant.
#extension GL_EXT_buffer_reference : require
#ifndef OUTS_ARE  // `coherent` where other workgroups read them
#define OUTS_ARE
#endif
layout(buffer_reference, std430, buffer_reference_align = 4) OUTS_ARE writeonly buffer Outs { float at[]; };

const uint EPILOGUE_NONE = 0, EPILOGUE_GELU = 1, EPILOGUE_SILU = 2;

/// activation(gate) * up. GELU by its tanh form, 0.5 x (1 + tanh u) = x / (1 + exp(-2 u)).
float gated(float gate, float up) {
    float u = gate;
    if (EPILOGUE == EPILOGUE_GELU)
        u = 2.0 * 0.7978845608028654 * gate * (1.0 + 0.044715 * gate * gate);
    // exp(-u) beyond f32 is infinity, and gate / infinity is 0, as it should be; gate^3 beyond f32
    // leaves u an infinity of gate's sign.
    return gate / (1.0 + exp(-u)) * up;
}
