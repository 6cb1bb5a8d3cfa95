// Weights as the CPU's kernels want them: quantised matrices in panels of 16 rows, repacked by all
// threads; float matrices stay in the mapped file.

#include <algorithm>
#include <atomic>
#include <vector>

#include "backends/cpu/cpu_device.h"
#include "backends/cpu/work.h"
#include "kernels/matmul.h"

namespace unicorn::backends::cpu {
namespace {

/// One matrix to repack.
struct Job {
    device::TensorRef* matrix = nullptr;
    tensor::MatrixView source;
    std::size_t n_panels = 0;
    std::size_t panel_bytes = 0;
    std::byte* panels = nullptr;
};

// 512 rows of 1,152 Q4_0 weights are 332 KB: worth a call of the kernel to drop their pages.
constexpr std::size_t kPanelsATurn = 32;

}  // namespace

Result<memory::Allocation> CpuDevice::load(std::span<device::TensorRef* const> matrices,
                                           device::LoadObserver& observer) {
    std::vector<Job> jobs;
    std::size_t bytes = 0;
    for (device::TensorRef* const w : matrices) {
        if (!tensor::info(w->type).quantized) continue;
        Job job{w,
                {w->type, w->rows, w->cols, w->host},
                0,
                kernels::panel_bytes(w->type, w->cols),
                nullptr};
        job.n_panels = (w->rows + kernels::kPanelRows - 1) / kernels::kPanelRows;
        bytes += job.n_panels * job.panel_bytes;
        jobs.push_back(job);
    }
    if (jobs.empty()) return memory::Allocation();
    auto memory = host_.allocate(bytes, 64);
    if (!memory) return memory;
    std::byte* at = memory->host();
    for (Job& job : jobs) {
        job.panels = at;
        at += job.n_panels * job.panel_bytes;
    }

    std::vector<std::atomic<std::size_t>> next(jobs.size());
    run([&](Team& team) {
        for (std::size_t j = 0; j < jobs.size(); ++j) {
            const Job& job = jobs[j];
            if (team.index() == 0 && j + 1 < jobs.size()) {
                observer.will_read({jobs[j + 1].source.data, jobs[j + 1].source.bytes()});
            }
            take_turns(
                next[j], job.n_panels, kPanelsATurn, [&](std::size_t first, std::size_t last) {
                    kernels::pack_panels(job.source, first, last,
                                         job.panels + first * job.panel_bytes);
                    const std::size_t row = first * kernels::kPanelRows;
                    const std::size_t end = std::min(last * kernels::kPanelRows, job.source.rows);
                    observer.has_read({job.source.row(row), (end - row) * job.source.row_bytes()});
                });
        }
    });
    for (const Job& job : jobs) {
        job.matrix->layout = device::Layout::panels;
        job.matrix->tier = memory::Tier::host;
        job.matrix->host = job.panels;
    }
    return memory;
}

}  // namespace unicorn::backends::cpu
