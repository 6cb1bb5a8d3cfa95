// Decoding that goes on by itself: the device draws each token and feeds it to the next pass.

#include <algorithm>

#include "base/check.h"
#include "engine/engine_state.h"
#include "engine/open_devices.h"
#include "engine/sampler.h"

namespace unicorn::engine {

Status Engine::State::make_pickers() {
    const std::size_t rows = std::min(options.max_sequences, kMaxDecoding);
    device::TensorRef logits = activations.logits;
    logits.rows = rows;
    auto memory =
        device->allocator(device->main_tier())->allocate(rows * logits.cols * sizeof(float), 64);
    if (!memory) return forward(memory);
    picker_logits = std::move(*memory);
    logits.tier = device->main_tier();
    logits.host = picker_logits.host();
    logits.device_address = picker_logits.device_address();
    // Bytes of a pass: cache lines of its own.
    const std::size_t apart = (rows * sizeof(std::int32_t) + 63) / 64 * 64;
    auto ids = device->results().allocate(kAhead * apart, 64);
    if (!ids) return forward(ids);
    picker_ids = std::move(*ids);
    auto state_memory = device->results().allocate(rows * sizeof(kernels::draw::DrawState), 64);
    if (!state_memory) return forward(state_memory);
    picker_states = std::move(*state_memory);
    const device::TensorRef states = {
        .tier = device->results().tier(),
        .rows = rows,
        .cols = sizeof(kernels::draw::DrawState) / sizeof(std::uint32_t),
        .host = picker_states.host(),
        .device_address = picker_states.device_address()};
    const device::Head head_step{weights.output, activations.x, logits};
    for (std::size_t i = 0; i < kAhead; ++i) {
        Picker& picker = pickers[i];
        picker.tokens.reserve(rows);
        picker.positions.reserve(rows);
        picker.rows.reserve(rows);
        picker.runs.reserve(rows);
        picker.ids = {.tier = device->results().tier(),
                      .rows = 1,
                      .cols = rows,
                      .host = picker_ids.host() + i * apart,
                      .device_address = picker_ids.device_address() + i * apart};
        const std::array<device::Step, 2> picks = {
            head_step, device::PickLargest{logits, picker.ids, n_vocab}};
        auto program = device->prepare(picks, rows);
        if (!program) return forward(program);
        picker.pick = std::move(*program);
        const std::array<device::Step, 2> samples = {
            head_step, device::Sample{logits, states, picker.ids, n_vocab}};
        if (!device->supports(samples[1])) continue;
        program = device->prepare(samples, rows);
        if (!program) return forward(program);
        picker.sample = std::move(*program);
    }
    if (pickers[0].sample != nullptr) {
        draw_states = reinterpret_cast<kernels::draw::DrawState*>(picker_states.host());
    }
    return {};
}

std::size_t Engine::max_decoding() const { return state_->pickers[0].ids.cols; }

bool Engine::can_decode(const Sampler& sampler, std::size_t n_banned) const {
    if (max_decoding() == 0) return false;
    if (sampler.is_greedy() && n_banned == 0) return true;
    return state_->draw_states != nullptr && sampler.fits_gpu(n_banned);
}

Status Engine::State::submit_pass(std::span<const Decoding> decodings, std::span<const Row> rows,
                                  bool samples, const Picker* from, Picker& to) {
    to.tokens.clear();
    to.positions.clear();
    to.rows.clear();
    to.runs.clear();
    for (const Row& row : rows) {
        const Sequence::State& sequence = *decodings[row.index].sequence->state_;
        UNICORN_CHECK(sequence.n_computed == sequence.tokens.size());
        const std::size_t position = sequence.tokens.size() + (from != nullptr ? 1 : 0);
        cache.prepare_write(sequence.slot, position, 1);
        const auto i = static_cast<std::int32_t>(to.rows.size());
        to.tokens.push_back(row.token);
        to.positions.push_back(static_cast<std::int32_t>(position));
        to.rows.push_back(i);
        to.runs.push_back({i, 1, static_cast<std::int32_t>(position), sequence.slot});
    }
    if (!cache.copies().empty()) {
        if (auto status = device->copy(cache.copies()); !status) return status;
        cache.copied();
    }
    device::Batch pass;
    pass.tokens = to.tokens;
    pass.positions = to.positions;
    pass.runs = to.runs;
    if (from != nullptr) pass.picked = from->ids;
    // The tables change before this pass has finished: devices with memory of their own have taken
    // their copy when submit() returns.
    cache.describe(pass);
    auto ticket = device->submit(*body, pass, {});
    if (!ticket) return forward(ticket);
    device::Batch wanted;
    wanted.logit_rows = to.rows;
    ticket = device->submit(samples ? *to.sample : *to.pick, wanted, {});
    if (!ticket) return forward(ticket);
    to.done = *ticket;
    return {};
}

Status Engine::State::decode_stretch(std::span<const Decoding> decodings, std::vector<Row>& rows,
                                     const std::function<bool(std::size_t, std::int32_t)>& on_token,
                                     const std::function<bool()>& cancel) {
    const bool samples = std::ranges::any_of(rows, [&](const Row& row) {
        const Decoding& d = decodings[row.index];
        return !d.sampler->is_greedy() || !d.banned.empty();
    });
    if (samples) {
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const Decoding& d = decodings[rows[i].index];
            d.sampler->describe(d.banned, draw_states[i]);
        }
    }
    std::size_t left = SIZE_MAX;  // passes until the first row has all its tokens
    for (const Row& row : rows)
        left = std::min(left, decodings[row.index].max_tokens - row.n_drawn);
    if (auto status = submit_pass(decodings, rows, samples, nullptr, pickers[0]); !status)
        return status;
    std::vector<bool> ended(rows.size());
    Status result;
    bool ends = false;
    for (std::size_t i = 0; i < left; ++i) {
        Picker& now = pickers[i % kAhead];
        Picker& next = pickers[(i + 1) % kAhead];
        // The next pass is queued before this one's ids are looked at: it takes the ids itself.
        const bool is_last = ends || i + 1 == left;
        Status ahead;
        if (!is_last) ahead = submit_pass(decodings, rows, samples, &now, next);
        result = device->wait(now.done);
        if (result) result = check_sources();
        if (!result) break;
        const auto* ids = reinterpret_cast<const std::int32_t*>(now.ids.host);
        const bool cancels = cancel && cancel();
        for (std::size_t r = 0; r < rows.size() && result; ++r) {
            // What the pass in flight makes of one that has ended is written over later.
            if (ended[r]) continue;
            Row& row = rows[r];
            const Decoding& d = decodings[row.index];
            Sequence::State& sequence = *d.sequence->state_;
            sequence.tokens.push_back(row.token);
            ++sequence.n_computed;
            if (ids[r] < 0) {
                result = fail(ErrorCode::invalid_file, "{}: the model's output is not a number",
                              file.path());
            } else if (!cancels) {
                row.token = ids[r];
                ++row.n_drawn;
                d.sampler->drew();
                ended[r] = !on_token(row.index, ids[r]) || row.n_drawn == d.max_tokens;
                ends = ends || ended[r];
            }
        }
        if (result && cancels) result = fail(ErrorCode::cancelled, "cancelled");
        if (result) result = std::move(ahead);
        const bool all_ended = std::ranges::find(ended, false) == ended.end();
        if (result && !all_ended && !is_last) continue;
        // A pass that nobody wants may be under way: its keys are written over later.
        if (!is_last && ahead) static_cast<void>(device->wait(next.done));
        break;
    }
    std::size_t r = 0;
    std::erase_if(rows, [&](const Row&) { return ended[r++]; });
    return result;
}

Status Engine::decode(std::span<const Decoding> decodings,
                      const std::function<bool(std::size_t, std::int32_t)>& on_token,
                      const std::function<bool()>& cancel) {
    State& s = *state_;
    bool rebuilt = false;
    if (auto status = s.ensure_device(cancel, rebuilt); !status) return status;
    if (decodings.size() > max_decoding()) {
        return fail(ErrorCode::invalid_argument, "{} sequences to decode, at most {} at once",
                    decodings.size(), max_decoding());
    }
    std::vector<State::Row> rows;
    for (std::size_t i = 0; i < decodings.size(); ++i) {
        const Decoding& d = decodings[i];
        UNICORN_CHECK(d.sequence != nullptr && d.sequence->state_->engine == &s);
        UNICORN_CHECK(d.sampler != nullptr && can_decode(*d.sampler, d.banned.size()));
        for (std::size_t j = 0; j < i; ++j) UNICORN_CHECK(decodings[j].sequence != d.sequence);
        const Input first{d.sequence, {&d.token, 1}, Logits::last};
        const std::size_t room = s.options.context + 1 - std::min(d.max_tokens, s.options.context);
        if (auto status = check_inputs({&first, 1}, s.n_vocab, room); !status) return status;
        if (d.max_tokens > 0) rows.push_back({i, 0, d.token});
    }
    while (!rows.empty()) {
        // What truncations left to compute, or the loss of a device, goes first.
        auto status = s.evaluate_pending(decodings, rows, cancel, rebuilt);
        if (status) status = s.decode_stretch(decodings, rows, on_token, cancel);
        if (!status) status = s.recover(std::move(status.error()), cancel, rebuilt);
        if (!status) return status;
    }
    return {};
}

Status Engine::State::evaluate_pending(std::span<const Decoding> decodings,
                                       std::span<const Row> rows,
                                       const std::function<bool()>& cancel, bool& rebuilt) {
    for (std::size_t i = 0; i < rows.size();) {
        Sequence::State& sequence = *decodings[rows[i].index].sequence->state_;
        if (sequence.n_computed == sequence.tokens.size()) {
            ++i;
            continue;
        }
        const std::vector<std::int32_t> known = sequence.tokens;
        const auto computed = static_cast<std::ptrdiff_t>(sequence.n_computed);
        sequence.tokens.resize(sequence.n_computed);
        const Input input{decodings[rows[i].index].sequence,
                          std::span(known).subspan(static_cast<std::size_t>(computed)),
                          Logits::none};
        const bool rebuilt_before = rebuilt;
        auto status = evaluate({&input, 1}, {}, cancel, rebuilt);
        if (!status) {
            sequence.tokens = known;  // tokens that were there are kept
            return status;
        }
        // With a device that was lost, those before it have lost what was computed.
        i = rebuilt == rebuilt_before ? i + 1 : 0;
    }
    return {};
}

}  // namespace unicorn::engine
