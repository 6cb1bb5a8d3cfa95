#include "engine/kv_cache.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/kv_page.h"
#include "memory/host_allocator.h"

namespace unicorn::engine {
namespace {

constexpr auto kLocal = device::LayerGroup::local;
constexpr auto kGlobal = device::LayerGroup::global;

class KvCacheTest : public testing::Test {
protected:
    static model::Config config() {
        model::Config c;
        c.n_layers = 7;
        c.n_kv_heads = 2;
        c.head_dim = 32;
        c.window = 64;
        return c;
    }
    KvCache make(std::size_t sequences, tensor::DType type = tensor::DType::f16) {
        auto cache = KvCache::create(config(), type, 1024, sequences, 128, allocator_);
        EXPECT_TRUE(cache);
        return std::move(*cache);
    }
    static std::int32_t page(const KvCache& cache, device::LayerGroup group, std::int32_t slot,
                             std::size_t position) {
        device::Batch batch;
        cache.describe(batch);
        return batch.pages(group, slot)[position / 32];
    }
    memory::HostAllocator allocator_{std::size_t{64} << 20};
};

TEST_F(KvCacheTest, LocalPagesAreBoundedByTheWindow) {
    KvCache cache = make(1);
    const std::int32_t slot = cache.open_slot().value();
    std::size_t most = 0;
    for (std::size_t at = 0; at < 1024; at += 128) {
        cache.prepare_write(slot, at, 128);
        most = std::max(most, cache.pages_in_use(kLocal));
        EXPECT_EQ(cache.pages_in_use(kGlobal), (at + 128) / 32);
        // The first query of the chunk sees 63 positions before it.
        if (at > 0) {
            EXPECT_GE(page(cache, kLocal, slot, at - 63), 0);
        }
    }
    EXPECT_LE(most, (64 + 128) / 32 + 1);
    EXPECT_EQ(page(cache, kLocal, slot, 0), -1);
    EXPECT_GE(page(cache, kGlobal, slot, 0), 0);
    cache.close_slot(slot);
    EXPECT_EQ(cache.pages_in_use(kLocal), 0U);
    EXPECT_EQ(cache.pages_in_use(kGlobal), 0U);
}

TEST_F(KvCacheTest, ForksShareUntilOneWrites) {
    for (const tensor::DType type : {tensor::DType::f16, tensor::DType::q8_0, tensor::DType::f32}) {
        KvCache cache = make(2, type);
        const std::int32_t a = cache.open_slot().value();
        cache.prepare_write(a, 0, 40);
        std::byte* const k = cache.layers()[5].k.host;  // layer 5 is global
        const std::size_t page_bytes = 2 * kernels::kv_page_bytes(type, 32);
        const std::int32_t shared = page(cache, kGlobal, a, 39);
        for (const std::size_t at : {std::size_t{7}, page_bytes - 1})
            k[static_cast<std::size_t>(shared) * page_bytes + at] = std::byte{123};

        const std::int32_t b = cache.fork_slot(a).value();
        EXPECT_EQ(cache.pages_in_use(kGlobal), 2U);
        EXPECT_FALSE(cache.open_slot());  // both slots are taken

        cache.prepare_write(b, 40, 1);
        // The tail page of each of the 7 layers' K and V: of 6 local ones and a global one.
        EXPECT_EQ(cache.copies().size(), 14U);
        for (const device::Copy& c : cache.copies())
            std::memcpy(c.matrix.host + c.to, c.matrix.host + c.from, c.bytes);
        cache.copied();
        EXPECT_EQ(page(cache, kGlobal, a, 0), page(cache, kGlobal, b, 0));
        const std::int32_t own = page(cache, kGlobal, b, 40);
        EXPECT_NE(own, shared);
        EXPECT_EQ(page(cache, kGlobal, a, 39), shared);
        for (const std::size_t at : {std::size_t{7}, page_bytes - 1})
            EXPECT_EQ(k[static_cast<std::size_t>(own) * page_bytes + at], std::byte{123});
        cache.close_slot(a);
        EXPECT_EQ(cache.pages_in_use(kGlobal), 2U);
        cache.close_slot(b);
        EXPECT_EQ(cache.pages_in_use(kGlobal), 0U);
    }
}

TEST_F(KvCacheTest, TruncateKnowsWhatLocalLayersHaveLost) {
    KvCache cache = make(1);
    const std::int32_t slot = cache.open_slot().value();
    for (std::size_t at = 0; at < 512; at += 128) cache.prepare_write(slot, at, 128);
    EXPECT_TRUE(cache.truncate(slot, 500));
    EXPECT_EQ(cache.pages_in_use(kGlobal), 16U);
    EXPECT_TRUE(cache.truncate(slot, 400));
    EXPECT_EQ(cache.pages_in_use(kGlobal), 13U);
    EXPECT_FALSE(cache.truncate(slot, 100));
    EXPECT_EQ(cache.pages_in_use(kGlobal), 0U);
    EXPECT_EQ(cache.pages_in_use(kLocal), 0U);
}

TEST_F(KvCacheTest, ReadsTheWindowOnlyInLocalLayers) {
    // 7 layers, one of them global; a token is 2 x 2 x 32 values a layer.
    const KvCache cache = make(1);
    EXPECT_EQ(cache.read_bytes(config(), 0), 7U * 256);
    EXPECT_EQ(cache.read_bytes(config(), 999), (6U * 64 + 1000) * 256);
    const KvCache q8_0 = make(1, tensor::DType::q8_0);
    EXPECT_EQ(q8_0.read_bytes(config(), 999), (6U * 64 + 1000) * (4 * 34));
}

TEST_F(KvCacheTest, TakesWhatItsPagesTake) {
    // Local layers: 64 + 128 tokens and a page; the global one: 1024.
    const std::size_t pages = 6 * ((64 + 128) / 32 + 1) + 1024 / 32;
    EXPECT_EQ(make(1).bytes(), pages * 2 * 2 * 32 * 32 * 2);
    EXPECT_EQ(make(1, tensor::DType::q8_0).bytes(), pages * 2 * 2 * 32 * 34);
}

TEST_F(KvCacheTest, SaysWhenMemoryIsShort) {
    memory::HostAllocator small(1000);
    const auto cache = KvCache::create(config(), tensor::DType::f16, 1024, 1, 128, small);
    ASSERT_FALSE(cache);
    EXPECT_EQ(cache.error().code, ErrorCode::out_of_memory);
}

}  // namespace
}  // namespace unicorn::engine
