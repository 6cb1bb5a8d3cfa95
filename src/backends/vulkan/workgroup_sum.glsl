// Sums over a workgroup of any shape, in an order that only the device decides: the same every
// time. Needs gl_WorkGroupSize to be whole subgroups, or the rest of the last one to take part too.
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require

shared float subgroup_sums[256];  // 1,024 invocations in subgroups of 4 at least

/// The sum of every invocation's x, in all of them. All invocations must call it.
float workgroup_sum(float x) {
    const float own = subgroupAdd(x);
    barrier();  // the sums of the last call have been read
    if (subgroupElect()) subgroup_sums[gl_SubgroupID] = own;
    barrier();
    float all = 0;
    for (uint i = gl_SubgroupInvocationID; i < gl_NumSubgroups; i += gl_SubgroupSize)
        all += subgroup_sums[i];
    return subgroupAdd(all);
}
