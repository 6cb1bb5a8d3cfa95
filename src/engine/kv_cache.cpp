#include "engine/kv_cache.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/kv_page.h"

namespace unicorn::engine {
namespace {

using kernels::kPageTokens;

constexpr std::int32_t kNone = -1;
constexpr std::size_t kAlignment = 64;

std::size_t pages_for(std::size_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

/// Pages that one sequence can hold in a local layer: what the first query of a chunk sees, and
/// the chunk; one more because neither begins on a page.
std::size_t local_pages(std::size_t window, std::size_t chunk, std::size_t context) {
    return std::min(pages_for(context), pages_for(window + chunk) + 1);
}

/// First position that a query at `position` sees in a local layer.
std::size_t window_start(std::size_t position, std::size_t window) {
    return position + 1 > window ? position + 1 - window : 0;
}

}  // namespace

Result<KvCache> KvCache::create(const model::Config& config, tensor::DType type,
                                std::size_t context, std::size_t max_sequences, std::size_t chunk,
                                memory::TierAllocator& allocator) {
    KvCache cache;
    cache.pages_per_slot_ = pages_for(context);
    cache.window_ = config.window;
    cache.page_bytes_ = config.n_kv_heads * kernels::kv_page_bytes(type, config.head_dim);

    std::array<std::size_t, device::kLayerGroups> pool_bytes{};
    for (std::size_t g = 0; g < device::kLayerGroups; ++g) {
        Group& group = cache.groups_[g];
        group.local = g == static_cast<std::size_t>(device::LayerGroup::local);
        for (std::size_t layer = 0; layer < config.n_layers; ++layer) {
            if (config.is_global(layer) != group.local) group.layers.push_back(layer);
        }
        const std::size_t pages =
            max_sequences *
            (group.local ? local_pages(config.window, chunk, context) : cache.pages_per_slot_);
        group.references.assign(pages, 0);
        group.free.resize(pages);
        // Handed out from the back: page 0 first.
        for (std::size_t i = 0; i < pages; ++i)
            group.free[i] = static_cast<std::int32_t>(pages - 1 - i);
        group.tables.assign(max_sequences * cache.pages_per_slot_, kNone);
        pool_bytes[g] = (pages * cache.page_bytes_ + kAlignment - 1) / kAlignment * kAlignment;
    }
    for (std::size_t i = max_sequences; i-- > 0;)
        cache.free_slots_.push_back(static_cast<std::int32_t>(i));

    // K and V of all layers in one piece of memory, or in as few as the allocator can give.
    struct Pool {
        device::TensorRef* ref;
        std::size_t bytes;
    };
    std::vector<Pool> pools;
    cache.layers_.resize(config.n_layers);
    for (std::size_t g = 0; g < device::kLayerGroups; ++g) {
        const Group& group = cache.groups_[g];
        for (const std::size_t layer : group.layers) {
            device::KvCache& kv = cache.layers_[layer];
            kv.group = static_cast<device::LayerGroup>(g);
            for (device::TensorRef* pool : {&kv.k, &kv.v}) {
                pool->type = type;
                pool->tier = allocator.tier();
                pool->rows = group.references.size() * config.n_kv_heads * kPageTokens;
                pool->cols = config.head_dim;
                pools.push_back({pool, pool_bytes[g]});
            }
        }
    }
    const std::size_t most = allocator.max_piece_bytes();
    for (std::size_t first = 0; first < pools.size();) {
        std::size_t last = first, bytes = 0;
        while (last < pools.size() && (last == first || pools[last].bytes <= most - bytes))
            bytes += pools[last++].bytes;
        auto memory = allocator.allocate(bytes, kAlignment);
        if (!memory) return forward(memory);
        for (std::size_t offset = 0; first < last; offset += pools[first++].bytes) {
            device::TensorRef& pool = *pools[first].ref;
            if (memory->host() != nullptr) pool.host = memory->host() + offset;
            if (memory->device_address() != 0)
                pool.device_address = memory->device_address() + offset;
        }
        cache.memory_.push_back(std::move(*memory));
    }
    return cache;
}

std::size_t KvCache::bytes() const {
    std::size_t sum = 0;
    for (const memory::Allocation& memory : memory_) sum += memory.bytes();
    return sum;
}

void KvCache::describe(device::Batch& batch) const {
    for (std::size_t g = 0; g < device::kLayerGroups; ++g)
        batch.page_tables[g] = groups_[g].tables.data();
    batch.pages_per_slot = pages_per_slot_;
}

Result<std::int32_t> KvCache::open_slot() {
    if (free_slots_.empty()) {
        return fail(ErrorCode::out_of_memory, "all {} sequences are in use",
                    groups_[0].tables.size() / std::max<std::size_t>(1, pages_per_slot_));
    }
    const std::int32_t slot = free_slots_.back();
    free_slots_.pop_back();
    return slot;
}

Result<std::int32_t> KvCache::fork_slot(std::int32_t slot) {
    auto fork = open_slot();
    if (!fork) return fork;
    for (Group& group : groups_) {
        for (std::size_t i = 0; i < pages_per_slot_; ++i) {
            const std::int32_t page = entry(group, slot, i);
            entry(group, *fork, i) = page;
            if (page != kNone) ++group.references[static_cast<std::size_t>(page)];
        }
    }
    return fork;
}

void KvCache::close_slot(std::int32_t slot) {
    for (Group& group : groups_) {
        for (std::size_t i = 0; i < pages_per_slot_; ++i) release(group, slot, i);
    }
    free_slots_.push_back(slot);
}

void KvCache::release(Group& group, std::int32_t slot, std::size_t index) {
    std::int32_t& page = entry(group, slot, index);
    if (page == kNone) return;
    if (--group.references[static_cast<std::size_t>(page)] == 0) group.free.push_back(page);
    page = kNone;
}

void KvCache::make_exclusive(Group& group, std::int32_t slot, std::size_t index) {
    std::int32_t& page = entry(group, slot, index);
    if (page != kNone && group.references[static_cast<std::size_t>(page)] == 1) return;
    // Every sequence may own as many pages as it can hold, so the pool cannot run dry.
    UNICORN_CHECK(!group.free.empty());
    const std::int32_t own = group.free.back();
    group.free.pop_back();
    group.references[static_cast<std::size_t>(own)] = 1;
    if (page != kNone) {
        for (const std::size_t layer : group.layers) {
            for (const device::TensorRef* pool : {&layers_[layer].k, &layers_[layer].v}) {
                copies_.push_back({*pool, static_cast<std::size_t>(page) * page_bytes_,
                                   static_cast<std::size_t>(own) * page_bytes_, page_bytes_});
            }
        }
        --group.references[static_cast<std::size_t>(page)];
    }
    page = own;
}

void KvCache::prepare_write(std::int32_t slot, std::size_t first, std::size_t n) {
    UNICORN_CHECK(n > 0 && pages_for(first + n) <= pages_per_slot_);
    for (Group& group : groups_) {
        if (group.local) {
            const std::size_t keep = window_start(first, window_) / kPageTokens;
            // Pages leave one after the other, so the ones to release end at the first gap.
            for (std::size_t i = keep; i-- > 0 && entry(group, slot, i) != kNone;)
                release(group, slot, i);
        }
        const std::size_t last = (first + n - 1) / kPageTokens;
        for (std::size_t i = first / kPageTokens; i <= last; ++i) make_exclusive(group, slot, i);
    }
}

bool KvCache::truncate(std::int32_t slot, std::size_t n) {
    const Group& local = groups_[static_cast<std::size_t>(device::LayerGroup::local)];
    bool intact = true;
    for (std::size_t i = window_start(n, window_) / kPageTokens;
         i < pages_for(n) && !local.layers.empty(); ++i) {
        intact =
            intact && local.tables[static_cast<std::size_t>(slot) * pages_per_slot_ + i] != kNone;
    }
    const std::size_t keep = intact ? pages_for(n) : 0;
    for (Group& group : groups_) {
        for (std::size_t i = keep; i < pages_per_slot_; ++i) release(group, slot, i);
    }
    return intact;
}

std::uint64_t KvCache::read_bytes(const model::Config& config, std::size_t position) const {
    const std::size_t row = 2 * page_bytes_ / kPageTokens;  // K and V
    const std::size_t tokens = position + 1;
    return row * (config.n_global_layers() * tokens +
                  config.n_local_layers() * std::min(tokens, config.window));
}

std::size_t KvCache::pages_in_use(device::LayerGroup group) const {
    const Group& g = groups_[static_cast<std::size_t>(group)];
    return g.references.size() - g.free.size();
}

}  // namespace unicorn::engine
