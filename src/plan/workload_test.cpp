#include "plan/workload.h"

#include <gtest/gtest.h>

namespace unicorn::plan {
namespace {

TEST(Workload, TensorsAreKnownByTheirNames) {
    const TensorSpec q = describe_tensor("blk.17.attn_q.weight", tensor::DType::q4_0, 8, 64);
    EXPECT_EQ(q.role, Role::q);
    EXPECT_EQ(q.layer, 17u);
    EXPECT_EQ(q.bytes, 8u * 2 * 18);
    EXPECT_EQ(role_of("token_embd.weight"), Role::embedding);
    EXPECT_EQ(role_of("output.weight"), Role::head);
    EXPECT_EQ(role_of("output_norm.weight"), Role::norm);
    EXPECT_EQ(role_of("blk.0.attn_k.weight"), Role::k);
    EXPECT_EQ(role_of("blk.0.attn_v.weight"), Role::v);
    EXPECT_EQ(role_of("blk.0.attn_output.weight"), Role::o);
    EXPECT_EQ(role_of("blk.0.attn_q_norm.weight"), Role::norm);
    EXPECT_EQ(role_of("blk.0.attn_norm.weight"), Role::norm);
    EXPECT_EQ(role_of("blk.0.ffn_gate.weight"), Role::gate);
    EXPECT_EQ(role_of("blk.0.ffn_up.weight"), Role::up);
    EXPECT_EQ(role_of("blk.0.ffn_down.weight"), Role::down);
    EXPECT_EQ(role_of("blk.0.ffn_norm.weight"), Role::norm);
    EXPECT_EQ(role_of("v.blk.0.attn_q.weight"), std::nullopt);
    EXPECT_EQ(role_of("rope_freqs.weight"), std::nullopt);
    EXPECT_EQ(describe_tensor("output_norm.weight", tensor::DType::f32, 1, 64).layer, kNoLayer);
}

TEST(Workload, LocalLayersHoldTheirWindowAndAChunk) {
    ModelSpec model;
    model.n_layers = 6;
    model.n_kv_heads = 2;
    model.head_dim = 64;
    model.window = 100;
    model.max_context = 10'000;
    Workload w;
    w.context = 1000;
    w.chunk_tokens = 50;
    constexpr std::uint64_t kRow = 2 * 2 * 64 * 2;  // K and V of two heads in f16
    const KvBytes global = kv_bytes(model, w, 5);
    EXPECT_EQ(global.in_window, 1000 * kRow);
    EXPECT_EQ(global.held, 1024 * kRow);  // pages of 32
    const KvBytes local = kv_bytes(model, w, 4);
    EXPECT_EQ(local.in_window, 100 * kRow);
    EXPECT_EQ(local.held, (160 + 32) * kRow);
    w.sequences = 3;
    EXPECT_EQ(kv_bytes(model, w, 4).held, 3 * local.held);
    w.kv_type = tensor::DType::q8_0;
    EXPECT_EQ(kv_bytes(model, w, 5).held, 3 * 1024 * kRow * 17 / 32);
    w.context = 40;  // shorter than the window
    EXPECT_EQ(kv_bytes(model, w, 4).held, kv_bytes(model, w, 5).held);
}

TEST(Workload, ChunksAreNoLongerThanTheContextAndHoldARowASequence) {
    Workload w;
    EXPECT_EQ(chunk_rows(w), 512u);
    w.context = 100;
    EXPECT_EQ(chunk_rows(w), 100u);
    w.chunk_tokens = 4;
    w.sequences = 20;
    EXPECT_EQ(chunk_rows(w), 20u);
    EXPECT_EQ(logit_rows(w), 20u);
}

}  // namespace
}  // namespace unicorn::plan
