// Measures llama.cpp (the npm package node-llama-cpp) on the CPU: prompt processing and generation.
//
//   node bench/llama_cpp.mjs PACKAGE_DIR MODEL.gguf [-p 512] [-n 128] [-d 0] [-r 3] [-t THREADS]
//
// PACKAGE_DIR is where `npm install node-llama-cpp` was run; keep it outside this repository.
// Batches go straight to llama_decode through the package's addon, and logits of the last token are
// computed but not sampled from: the package samples in JavaScript over the whole vocabulary, which
// would count against llama.cpp. Prints one JSON object: {"pp512": [tok/s, ...], "tg128": [...],
// "backend": the library of kernels that llama.cpp chose for this CPU, by its memory map}.
//
// To hold llama.cpp to AVX2, take every other choice out of a copy of the package:
//   cp -r PACKAGE_DIR AVX2_DIR
//   find AVX2_DIR -name 'libggml-cpu-*.so' ! -name '*-haswell.so' -delete

import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";
import fs from "node:fs";
import path from "node:path";

const [packageDir, modelPath, ...rest] = process.argv.slice(2);
if (modelPath === undefined) {
    console.error("usage: node bench/llama_cpp.mjs PACKAGE_DIR MODEL.gguf [-p N] [-n N] [-d N] [-r N] [-t N]");
    process.exit(2);
}
const options = {p: 512, n: 128, d: 0, r: 3, t: 0};
for (let i = 0; i < rest.length; i += 2) {
    const name = rest[i].replace(/^-+/, "");
    if (!(name in options) || !/^\d+$/.test(rest[i + 1] ?? "")) {
        console.error(`unknown or incomplete option ${rest[i]}`);
        process.exit(2);
    }
    options[name] = Number(rest[i + 1]);
}

const resolve = createRequire(path.resolve(packageDir, "package.json")).resolve;
const {getLlama} = await import(pathToFileURL(resolve("node-llama-cpp")).href);
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
if (options.t > 0) llama.maxThreads = options.t;
const model = await llama.loadModel({modelPath});
const depth = options.d;
const context = await model.createContext({
    contextSize: depth + Math.max(options.p, options.n) + 64,
    batchSize: 512,
    sequences: 1,
    ...(options.t > 0 ? {threads: {ideal: options.t, min: options.t}} : {}),
});
const addon = context._ctx;

const vocabulary = 4096;  // any ids below this are ordinary pieces or bytes in every vocabulary
let seed = 1;
const randomToken = () => (seed = (seed * 1103515245 + 12345) % 2147483648) % vocabulary;

async function decode(first, count) {
    const tokens = Uint32Array.from({length: count}, randomToken);
    addon.initBatch(count);
    addon.addToBatch(0, first, tokens, Uint32Array.of(count - 1));
    await addon.decodeBatch();
}

async function fill(from, to) {
    for (let at = from; at < to; at += 512) await decode(at, Math.min(512, to - at));
}

async function measure(body, tokens) {
    addon.disposeSequence(0);
    await fill(0, depth);
    const start = process.hrtime.bigint();
    await body();
    return tokens / (Number(process.hrtime.bigint() - start) / 1e9);
}

const suffix = depth > 0 ? `@d${depth}` : "";
const results = {};
const prompt = () => measure(() => fill(depth, depth + options.p), options.p);
const generate = () => measure(async () => {
    for (let i = 0; i < options.n; i++) await decode(depth + i, 1);
}, options.n);
await measure(async () => { await fill(depth, depth + 32); await decode(depth + 32, 1); }, 33);  // warm-up
for (let i = 0; i < options.r; i++) {
    if (options.p > 0) (results[`pp${options.p}${suffix}`] ??= []).push(await prompt());
    if (options.n > 0) (results[`tg${options.n}${suffix}`] ??= []).push(await generate());
}
const maps = fs.readFileSync("/proc/self/maps", "utf8");
results.backend = [...new Set(maps.match(/libggml-cpu[^/\s]*\.so/g))].join(" ");
console.log(JSON.stringify(results));
await llama.dispose();
