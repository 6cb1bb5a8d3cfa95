#include "engine/load_weights.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "backends/cpu/work.h"
#include "base/check.h"
#include "base/progress.h"
#include "kernels/matmul.h"

namespace unicorn::engine {
namespace {

/// One matrix to repack.
struct Job {
    device::TensorRef* matrix = nullptr;
    tensor::MatrixView source;
    kernels::PackedMatrix packed;
    std::byte* panels = nullptr;
};

/// The mapped file that holds `source`. Every matrix of a Gguf lies in one of its files.
const MappedFile& file_of(const formats::Gguf& gguf, const tensor::MatrixView& source) {
    const auto files = gguf.files();
    const auto holds = [&](const MappedFile& file) {
        const auto bytes = file.bytes();
        return source.data >= bytes.data() && source.data < bytes.data() + bytes.size();
    };
    const auto found = std::find_if(files.begin(), files.end(), holds);
    UNICORN_CHECK(found != files.end());
    return *found;
}

}  // namespace

Result<LoadedWeights> load_weights(const formats::Gguf& file, model::Weights weights,
                                   backends::cpu::CpuDevice& device) {
    LoadedWeights loaded;
    loaded.weights = std::move(weights);
    std::vector<Job> jobs;
    std::size_t panel_bytes = 0, source_bytes = 0;
    loaded.weights.for_each_matrix([&](device::TensorRef& w) {
        if (!tensor::info(w.type).quantized) {
            loaded.read_bytes += w.rows * tensor::row_bytes(w.type, w.cols);
            return;
        }
        Job job{&w, {w.type, w.rows, w.cols, w.host}, {w.type, w.rows, w.cols, nullptr}, nullptr};
        panel_bytes += job.packed.n_panels() * kernels::panel_bytes(w.type, w.cols);
        source_bytes += job.source.bytes();
        jobs.push_back(job);
    });
    loaded.read_bytes += panel_bytes;
    if (jobs.empty()) return loaded;

    auto panels = device.allocator(memory::Tier::host)->allocate(panel_bytes, 64);
    if (!panels) {
        return fail(ErrorCode::out_of_memory, "{}: weights do not fit: {}", file.path(), panels.error().message);
    }
    loaded.panels = std::move(*panels);
    std::byte* at = loaded.panels.host();
    for (Job& job : jobs) {
        job.panels = at;
        at += job.packed.n_panels() * kernels::panel_bytes(job.packed.type, job.packed.cols);
    }

    Progress progress("load", source_bytes, ProgressUnit::bytes);
    std::size_t done_bytes = 0;
    std::vector<std::atomic<std::size_t>> next(jobs.size());
    device.run([&](Team& team) {
        for (std::size_t j = 0; j < jobs.size(); ++j) {
            const Job& job = jobs[j];
            const std::size_t bytes = kernels::panel_bytes(job.packed.type, job.packed.cols);
            if (team.index() == 0 && j + 1 < jobs.size()) {
                const tensor::MatrixView& coming = jobs[j + 1].source;
                file_of(file, coming).will_need({coming.data, coming.bytes()});
            }
            // 512 rows of 1,152 Q4_0 weights are 332 KB: enough for one call of the kernel to drop them.
            constexpr std::size_t kPanelsATurn = 32;
            const std::size_t row_bytes = job.source.row_bytes();
            backends::cpu::take_turns(
                next[j], job.packed.n_panels(), kPanelsATurn, [&](std::size_t first, std::size_t last) {
                    kernels::pack_panels(job.source, first, last, job.panels + first * bytes);
                    const std::size_t row = first * kernels::kPanelRows;
                    const std::size_t end = std::min(last * kernels::kPanelRows, job.source.rows);
                    file_of(file, job.source).drop({job.source.row(row), (end - row) * row_bytes});
                });
            team.barrier();
            if (team.index() == 0) {
                done_bytes += job.source.bytes();
                progress.update(done_bytes);
            }
        }
    });
    for (const Job& job : jobs) {
        job.matrix->layout = device::Layout::panels;
        job.matrix->tier = memory::Tier::host;
        job.matrix->host = job.panels;
    }
    return loaded;
}

}  // namespace unicorn::engine
