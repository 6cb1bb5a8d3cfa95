#!/bin/sh
# Every step once, small, on 4 GPUs, in about three minutes; its four one-minute runs also compare optimisers.
# usage: smoke.sh CORPUS WORK OUT          (run from the repository's root; WORK is left with the tokenised corpus)
set -u
corpus=$1 work=$2 out=$3 here=training
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=4
mkdir -p "$work" "$out"
nvidia-smi -L
(OMP_NUM_THREADS=16 python3 tests/golden/make_golden.py "$work/golden" >"$out/golden.log" 2>&1 &&
    tar -C "$work" -czf "$out/golden.tar.gz" golden) &
golden=$!
python3 $here/data.py "$corpus" "$work/cache" "$(nproc)" || exit 1

train() { # GPU NAME ARGUMENTS...
    gpu=$1 name=$2
    shift 2
    CUDA_VISIBLE_DEVICES=$gpu python3 $here/train.py --cache "$work/cache" --out "$work/$name" "$@" \
        >"$out/$name.log" 2>&1
}
train 0 smoke-muon-10 --seconds 75 --lr 0.01 --eval-every 15 &
a=$!
train 1 smoke-muon-20 --seconds 75 --lr 0.02 --eval-every 15 &
b=$!
train 2 smoke-adam --seconds 75 --adam --adam-lr 1.5e-3 --eval-every 15 &
c=$!
train 3 smoke-teacher --seconds 75 --shape teacher --eval-every 15 &
d=$!
wait $a $b $c $d

(CUDA_VISIBLE_DEVICES=0,1 python3 -m torch.distributed.run --nproc-per-node 2 $here/train.py --cache "$work/cache" \
    --out "$work/smoke-distil" --seconds 60 --batch 16 --eval-every 10 --init "$work/smoke-muon-10/best.pt" \
    --teachers "$work/smoke-teacher/best.pt" "$work/smoke-muon-20/best.pt" >"$out/smoke-distil.log" 2>&1) &
a=$!
(export CUDA_VISIBLE_DEVICES=2
 python3 $here/tune.py --init "$work/smoke-muon-10/best.pt" --out "$work/smoke-tune" --cache "$work/cache" \
    --corpus "$corpus" --steps 40 >"$out/smoke-tune.log" 2>&1) &
b=$!
(export CUDA_VISIBLE_DEVICES=3
 python3 $here/export.py --weights "$work/smoke-muon-10/best.pt" --out "$work/smoke-hf" --report "$work/smoke-report" \
    --cache "$work/cache" --tokens 60 >"$out/smoke-export.log" 2>&1; ls -l "$work/smoke-hf" >>"$out/smoke-export.log") &
c=$!
wait $a $b $c $golden
for f in "$out"/*.log; do
    echo "== $f"
    tail -n 9 "$f" | cut -c 1-300
done
