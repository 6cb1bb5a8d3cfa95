#pragma once
// A plan as text for people and as JSON.

#include <string>

#include "plan/planner.h"

namespace unicorn::cli {

/// What was planned, besides what the plan says itself.
struct PlanSubject {
    std::string model;    // "gemma-3-27b, mixed"
    std::string machine;  // the profile's name
    plan::Workload workload;
    plan::PlanOptions options;
    std::size_t model_context = 0;  // tokens that the model allows
};

/// Tables by tier and by role, a bar for each tier, the verdict.
std::string plan_text(const PlanSubject& subject, const plan::Plan& plan, bool colour);
std::string plan_json(const PlanSubject& subject, const plan::Plan& plan);

/// One line: "host 291 MB of 13.9 GB: weights 240 MB, KV cache 31 MB, ...".
std::string plan_line(const plan::Plan& plan);

}  // namespace unicorn::cli
