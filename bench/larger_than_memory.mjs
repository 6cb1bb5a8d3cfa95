// A model larger than the memory it may have: unicorn --memory-limit against llama.cpp with mmap, both
// in a memory cgroup of that size, and against what the disk allows.
//
//   node bench/larger_than_memory.mjs PACKAGE_DIR UNICORN MODEL.gguf [-l BYTES] [-n 8] [-r 3] [-t THREADS]
//
// PACKAGE_DIR: see bench/llama_cpp.mjs. Needs the right to make a cgroup: v2 where its memory
// controller is on, else v1; the group is made for this run and removed. BYTES: 2147483648 by
// default. The disk's own speed is that of raw reads in `unicorn bench --load`, in the same run.

import {spawnSync} from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import {fileURLToPath} from "node:url";

const positional = [], options = {l: 2 ** 31, n: 8, r: 3, t: 0};
for (let i = 2; i < process.argv.length; i++) {
    const name = process.argv[i].match(/^-(\w)$/)?.[1];
    if (name in options && /^\d+$/.test(process.argv[i + 1] ?? "")) options[name] = Number(process.argv[++i]);
    else positional.push(process.argv[i]);
}
const [packageDir, unicorn, model] = positional;
if (positional.length !== 3) {
    console.error("usage: node bench/larger_than_memory.mjs PACKAGE_DIR UNICORN MODEL.gguf [-l BYTES] [-n N] [-r N] [-t N]");
    process.exit(2);
}

const v2 = fs.existsSync("/sys/fs/cgroup/cgroup.controllers") &&
    fs.readFileSync("/sys/fs/cgroup/cgroup.controllers", "utf8").split(/\s/).includes("memory");
const group = `/sys/fs/cgroup/${v2 ? "" : "memory/"}unicorn-bench-${process.pid}`;
fs.mkdirSync(group);
process.on("exit", () => fs.rmdirSync(group));
fs.writeFileSync(path.join(group, v2 ? "memory.max" : "memory.limit_in_bytes"), String(options.l));

function run(capped, command, args) {
    const all = capped ? ["/bin/sh", "-c", `echo $$ > ${group}/cgroup.procs && exec "$0" "$@"`, command, ...args]
        : [command, ...args];
    const result = spawnSync(all[0], all.slice(1), {encoding: "utf8", maxBuffer: 1 << 26});
    if (result.status !== 0) throw new Error(`${command} ${args.join(" ")}\n${result.stderr}`);
    return JSON.parse(result.stdout);
}
const dropCache = () => spawnSync("dd", [`if=${model}`, "iflag=nocache", "count=0", "status=none"]);
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

const threads = options.t > 0 ? ["-t", String(options.t)] : [];
const ours = [], theirs = [], raw = [];
let stream;
for (let round = 0; round < options.r; round++) {
    raw.push(run(false, unicorn, ["bench", "--device", "cpu", "--load", "-r", "1", "--json", "-m", model]).raw_gb_s);
    dropCache();
    const report = run(true, unicorn, ["bench", "--device", "cpu", "-m", model, "-p", "0", "-n", String(options.n), "-r", "2", "--json",
        "--memory-limit", String(options.l), ...threads]);
    ours.push(report.rows[0].tok_s.median);
    stream = report.stream;
    dropCache();
    const llama = path.join(path.dirname(fileURLToPath(import.meta.url)), "llama_cpp.mjs");
    theirs.push(...run(true, process.execPath, [llama, packageDir, model, "-p", "0", "-n", String(options.n), "-r", "1",
        ...threads])[`tg${options.n}`]);
}
const allowed = median(raw) * 1e9 / stream.bytes_per_pass;
console.log(`cap ${options.l} bytes by cgroup ${v2 ? "v2" : "v1"}; raw reads ${median(raw).toFixed(2)} GB/s (${raw.map((x) => x.toFixed(2)).join(", ")})`);
console.log(`unicorn    ${median(ours).toFixed(3)} tok/s (${ours.map((x) => x.toFixed(3)).join(", ")}); ` +
    `${stream.pinned_layers} layers kept, ${stream.streamed_layers} streamed, ${(stream.bytes_per_pass / 1e9).toFixed(2)} GB a token`);
console.log(`the disk allows ${allowed.toFixed(3)} tok/s for those bytes: unicorn reaches ${(100 * median(ours) / allowed).toFixed(0)} %`);
console.log(`llama.cpp  ${median(theirs).toFixed(3)} tok/s (${theirs.map((x) => x.toFixed(3)).join(", ")}); unicorn is ${(median(ours) / median(theirs)).toFixed(1)} times as fast`);
