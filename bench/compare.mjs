// unicorn against llama.cpp on the same files, alternating, so that a noisy machine disturbs both:
//
//   npm install --prefix PACKAGE_DIR node-llama-cpp        (outside this repository)
//   node bench/compare.mjs PACKAGE_DIR UNICORN MODEL.gguf [MODEL.gguf ...] [-p 512] [-n 128] [-d 0] [-r 3] [-t 2]
//
// Each of the -r rounds runs unicorn and then llama.cpp once, each with a warm-up of its own; the table
// (Markdown) has the medians over the rounds, their spread, and the ratio of the medians. Below it:
// the forms of the kernels that both used. How llama.cpp is driven, and how it is held to AVX2:
// llama_cpp.mjs beside this; UNICORN_ISA=avx2 holds unicorn to it.

import {spawnSync} from "node:child_process";
import path from "node:path";
import {fileURLToPath} from "node:url";

const options = {p: 512, n: 128, d: 0, r: 3, t: 2};
const positional = [];
const args = process.argv.slice(2);
for (let i = 0; i < args.length; i++) {
    const name = args[i].replace(/^-/, "");
    if (args[i].startsWith("-") && name in options && /^\d+$/.test(args[i + 1] ?? "")) options[name] = Number(args[++i]);
    else positional.push(args[i]);
}
const [packageDir, unicorn, ...models] = positional;
if (models.length === 0 || positional.some((arg) => arg.startsWith("-"))) {
    console.error("usage: node bench/compare.mjs PACKAGE_DIR UNICORN MODEL.gguf... [-p N] [-n N] [-d N] [-r N] [-t N]");
    process.exit(2);
}
const llama = path.join(path.dirname(fileURLToPath(import.meta.url)), "llama_cpp.mjs");

function run(command, args) {
    const result = spawnSync(command, args, {encoding: "utf8", maxBuffer: 1 << 26, stdio: ["ignore", "pipe", "pipe"]});
    if (result.status !== 0) throw new Error(`${command} ${args.join(" ")}\n${result.stderr}`);
    return JSON.parse(result.stdout);
}

const median = (values) => {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};
const digits = (value) => value.toPrecision(3).includes("e") ? value.toFixed(0) : value.toPrecision(3);
const show = (values) => `${digits(median(values))} (${digits(Math.min(...values))}-${digits(Math.max(...values))})`;

console.log("| model | test | unicorn tok/s | llama.cpp tok/s | ratio | unicorn GB/s | share of read bandwidth |");
console.log("|---|---|---|---|---|---|---|");
const forms = new Set();
for (const model of models) {
    const ours = {}, theirs = {}, bandwidth = {}, share = {};
    for (let round = 0; round < options.r; round++) {
        const test = ["-p", options.p, "-n", options.n, "-d", options.d, "-r", 1, "-t", options.t].map(String);
        const report = run(unicorn, ["bench", "--device", "cpu", "-m", model, ...test, "--format", "json"]);
        for (const row of report.rows) {
            (ours[row.test] ??= []).push(row.tok_s.median);
            (bandwidth[row.test] ??= []).push(row.gb_s);
            (share[row.test] ??= []).push(row.bandwidth_share);
        }
        const {backend, ...tests} = run("node", [llama, packageDir, model, ...test]);
        forms.add(`unicorn ${report.machine.isa}, llama.cpp ${backend}`);
        for (const [name, values] of Object.entries(tests)) {
            (theirs[name] ??= []).push(...values);
        }
    }
    for (const [name, values] of Object.entries(ours)) {
        const generation = name.startsWith("tg");
        console.log(`| ${path.basename(model)} | ${name} | ${show(values)} | ${show(theirs[name])} | ` +
            `${(median(values) / median(theirs[name])).toFixed(2)} | ` +
            (generation ? `${digits(median(bandwidth[name]))} | ${(100 * median(share[name])).toFixed(0)} % |` : "| |"));
    }
}
console.log(`\n${[...forms].join("; ")}`);
