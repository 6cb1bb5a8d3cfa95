#pragma once
// The pairs waiting to be merged, best first.

#include <cstdint>
#include <queue>
#include <utility>
#include <vector>

namespace unicorn::text {

/// A pair of adjacent symbols: where the left one begins, and the piece they would make.
struct Candidate {
    std::uint32_t left = 0;
    std::int32_t piece = 0;
};

/// Gives candidates back by priority, and those of equal priority from left to right.
///
/// One heap over a long text costs log n cache misses for each pair: a line of 10 MB takes many
/// seconds. Here each priority has its own queue. Pairs mostly arrive from left to right (all the
/// first ones do, and merges of one priority go from left to right), and then a queue is a list
/// with an end to append to; the few that arrive out of order go into a small heap beside it. Only
/// the priorities present are in a heap of their own, which stays as small as the number of
/// different pieces in the text.
class MergeQueue {
public:
    explicit MergeQueue(std::size_t n_expected);

    /// `priority` > 0.
    void push(std::uint32_t priority, Candidate candidate);
    /// False when nothing is left.
    bool pop(Candidate& candidate);

private:
    static constexpr std::uint32_t kNone = 0xFFFFFFFF;
    struct Link {
        Candidate candidate;
        std::uint32_t next = kNone;
    };
    struct Lane {  // one priority
        std::uint32_t priority = 0;
        std::uint32_t head = kNone;
        std::uint32_t tail = kNone;
        bool listed = false;          // in priorities_
        std::vector<Candidate> late;  // a heap, leftmost on top
    };

    Lane& lane(std::uint32_t priority);
    void grow_index();

    std::vector<Link> links_;
    std::uint32_t free_ = kNone;
    std::vector<Lane> lanes_;
    std::vector<std::uint32_t>
        index_;  // hash of priority -> lane; linear probing, at most half full
    std::priority_queue<std::pair<std::uint32_t, std::uint32_t>> priorities_;  // {priority, lane}
};

}  // namespace unicorn::text
