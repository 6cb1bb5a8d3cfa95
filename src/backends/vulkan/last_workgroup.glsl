// Work that needs what several workgroups wrote, done by the last of them to finish: that saves a
// dispatch and a barrier. What they write must be `coherent`, and so must be what the last one reads.

#extension GL_KHR_memory_scope_semantics : require

layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Counters { uint at[]; };

shared bool workgroup_is_last;

/// Whether all of `n` workgroups that call this with one counter have done so: true in the last one,
/// which then sees what every other wrote before. Counters are 0 before and after. All invocations
/// must call it; those of the first `writers` subgroups have written.
bool last_of(Counters done, uint counter, uint n, uint writers) {
    // Each invocation's writes are there for all to see before the count says so. Only that: a
    // barrier that also acquires would empty the caches of workgroups that still read.
    if (gl_SubgroupID < writers)
        memoryBarrier(gl_ScopeDevice, gl_StorageSemanticsBuffer, gl_SemanticsRelease);
    if (writers > 1) barrier();
    if (gl_SubgroupID == 0) {
        subgroupBarrier();
        if (subgroupElect()) {
            workgroup_is_last = atomicAdd(done.at[counter], 1) + 1 == n;
            if (workgroup_is_last) done.at[counter] = 0;
        }
    }
    barrier();
    if (workgroup_is_last)
        memoryBarrier(gl_ScopeDevice, gl_StorageSemanticsBuffer, gl_SemanticsAcquire);
    return workgroup_is_last;
}
