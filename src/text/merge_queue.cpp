#include "text/merge_queue.h"

#include <algorithm>

namespace unicorn::text {
namespace {

bool is_right_of(const Candidate& a, const Candidate& b) { return a.left > b.left; }

std::size_t slot_of(std::uint32_t priority, std::size_t n_slots) {
    return (priority * std::uint64_t{0x9E3779B97F4A7C15} >> 32) & (n_slots - 1);
}

}  // namespace

MergeQueue::MergeQueue(std::size_t n_expected) : index_(256, kNone) { links_.reserve(n_expected); }

MergeQueue::Lane& MergeQueue::lane(std::uint32_t priority) {
    std::size_t at = slot_of(priority, index_.size());
    for (; index_[at] != kNone; at = (at + 1) & (index_.size() - 1)) {
        if (lanes_[index_[at]].priority == priority) return lanes_[index_[at]];
    }
    index_[at] = static_cast<std::uint32_t>(lanes_.size());
    lanes_.emplace_back().priority = priority;
    if (lanes_.size() * 2 > index_.size()) grow_index();
    return lanes_.back();
}

void MergeQueue::grow_index() {
    index_.assign(index_.size() * 2, kNone);
    for (std::uint32_t i = 0; i < lanes_.size(); ++i) {
        std::size_t at = slot_of(lanes_[i].priority, index_.size());
        while (index_[at] != kNone) at = (at + 1) & (index_.size() - 1);
        index_[at] = i;
    }
}

void MergeQueue::push(std::uint32_t priority, Candidate candidate) {
    Lane& to = lane(priority);
    if (!to.listed) {
        to.listed = true;
        priorities_.emplace(priority, static_cast<std::uint32_t>(&to - lanes_.data()));
    }
    if (to.tail != kNone && candidate.left < links_[to.tail].candidate.left) {
        to.late.push_back(candidate);
        std::push_heap(to.late.begin(), to.late.end(), is_right_of);
        return;
    }
    std::uint32_t link = free_;
    if (link == kNone) {
        link = static_cast<std::uint32_t>(links_.size());
        links_.emplace_back();
    } else {
        free_ = links_[link].next;
    }
    links_[link] = {candidate, kNone};
    (to.tail == kNone ? to.head : links_[to.tail].next) = link;
    to.tail = link;
}

bool MergeQueue::pop(Candidate& candidate) {
    while (!priorities_.empty()) {
        Lane& from = lanes_[priorities_.top().second];
        const bool has_late = !from.late.empty();
        if (from.head == kNone && !has_late) {
            from.listed = false;
            priorities_.pop();
            continue;
        }
        if (from.head == kNone ||
            (has_late && from.late.front().left < links_[from.head].candidate.left)) {
            candidate = from.late.front();
            std::pop_heap(from.late.begin(), from.late.end(), is_right_of);
            from.late.pop_back();
            return true;
        }
        const std::uint32_t link = from.head;
        candidate = links_[link].candidate;
        from.head = links_[link].next;
        if (from.head == kNone) from.tail = kNone;
        links_[link].next = free_;
        free_ = link;
        return true;
    }
    return false;
}

}  // namespace unicorn::text
