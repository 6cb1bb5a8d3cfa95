# Sourced by quickstart, check and .ci/run: one line a step, the log's tail when it fails.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build_dir=$(realpath -m "${BUILD_DIR:-$root/build}")
export BUILD_DIR=$build_dir
mkdir -p "$build_dir"

# step NAME COMMAND...: runs COMMAND with its output in BUILD_DIR/logs/NAME.log. On a terminal
# its newest line shows while it runs.
step() {
    local name=$1 log=$build_dir/logs/${1// /-}.log start=$SECONDS
    shift
    mkdir -p "$build_dir/logs"
    if [[ -t 1 ]]; then
        local width
        width=$(tput cols 2>/dev/null || echo 80)
        if "$@" 2>&1 </dev/null | tee "$log" |
            while IFS= read -r line; do printf '\r\033[K%.*s' "$((width - 1))" "$name: $line"; done; then
            printf '\r\033[K'
        else
            printf '\r\033[K'
            step_failed "$name" "$log"
        fi
    elif ! "$@" >"$log" 2>&1 </dev/null; then
        step_failed "$name" "$log"
    fi
    echo "$name: $((SECONDS - start)) s"
}

step_failed() {
    tail -n 60 "$2" >&2
    echo "$1: failed; the whole log is $2" >&2
    exit 1
}

# As many compilers at once as there are cores, and memory for at 1.5 GiB each.
job_count() {
    local jobs available limit
    jobs=$(nproc)
    available=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
    limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
    if [[ $limit != max ]] && ((limit / 1048576 < available)); then
        available=$((limit / 1048576))
    fi
    if ((available / 1536 < jobs)); then
        jobs=$((available / 1536))
    fi
    echo $((jobs > 0 ? jobs : 1))
}

# configure PRESET [OPTION...]: into BUILD_DIR/PRESET.
configure() {
    local preset=$1
    shift
    step "configure $preset" cmake -S "$root" --preset "$preset" -B "$build_dir/$preset" \
        "-DUNICORN_SHADER_TOOLS=$build_dir/shader-tools" "-DUNICORN_MESA=$build_dir/mesa" "$@"
}

# build PRESET [TARGET...]
build() {
    local preset=$1
    shift
    step "build $preset" cmake --build "$build_dir/$preset" --parallel "$(job_count)" ${1:+--target "$@"}
}
