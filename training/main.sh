#!/bin/sh
# The whole training, after smoke.sh (or data.py) has filled WORK/cache. Meant to run as a daemon of its own session:
#   setsid sh training/main.sh CORPUS WORK GPUS TEACH_SECONDS DISTIL_SECONDS >WORK/main.log 2>&1 &
# WORK/status names the phase; WORK/result holds what is to be kept.
set -u
corpus=$1 work=$2 gpus=$3 teach=$4 distil=$5 here=training
lr=${LR:-0.01}
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=4
result=$work/result
mkdir -p "$result/logs"
say() { echo "$(date +%T) $1" | tee -a "$work/status"; }

export_model() { # WEIGHTS FOLDER TOKENS: the shards, and everything small in one archive
    rm -rf "$work/hf" "$work/report"
    python3 $here/export.py --weights "$1" --out "$work/hf" --report "$work/report" --cache "$work/cache" \
        --tokens "$3" >"$result/logs/export.log" 2>&1
    mkdir -p "$work/$2"
    cp "$work"/hf/*.safetensors "$work/$2"
    for run in "$work"/run-*; do cp "$run/log.csv" "$result/logs/$(basename "$run").csv"; done
    for run in "$work"/tune-*; do
        [ -d "$run" ] && cp "$run/result.json" "$result/logs/$(basename "$run").json"
    done
    cp "$work/status" "$result/logs/"
    tar -czf "$work/$2/rest.tar.gz" --exclude='*.safetensors' -C "$work" hf report -C "$result" logs
    mv "$work/$2" "$result/$2"
}

# 1. One model a GPU: the student on its own on the first, wider teachers of different dropout on the others.
say "phase 1: teachers"
jobs=
gpu=0
for run in "student 0.1" "teacher 0.1" "teacher 0.15" "teacher 0.2"; do
    [ $gpu -lt "$gpus" ] || break
    set -- $run
    CUDA_VISIBLE_DEVICES=$gpu python3 $here/train.py --cache "$work/cache" --out "$work/run-$gpu-$1" --shape "$1" \
        --dropout "$2" --seed $((gpu + 1)) --seconds "$teach" --lr "$lr" >"$result/logs/run-$gpu-$1.log" 2>&1 &
    jobs="$jobs $!"
    gpu=$((gpu + 1))
done
wait $jobs
student=$work/run-0-student/best.pt

# A first export at once, so that an early end of the lease leaves a model.
(
    export CUDA_VISIBLE_DEVICES=$((gpus - 1))
    export_model "$student" first 40
    say "first export: $(ls "$result/first" | wc -l) files"
) &
first=$!

# 2. The student again, from its own weights, taught by the mean of all of them.
if [ "$gpus" -gt 1 ]; then
    say "phase 2: distillation"
    python3 -m torch.distributed.run --nproc-per-node "$gpus" $here/train.py --cache "$work/cache" \
        --out "$work/run-distil" --seconds "$distil" --batch 16 --dropout 0.0 --init "$student" --seed 9 --lr "$lr" \
        --teachers "$work"/run-[0-9]-*/best.pt \
        >"$result/logs/run-distil.log" 2>&1
    [ -f "$work/run-distil/done" ] && student=$work/run-distil/best.pt
fi
wait $first

# 3. Chat tuning, with the text alone and with the teachers; the model is the mean of the two (merge.py says why).
say "phase 3: tuning"
tune() { # GPU NAME DROPOUT STEPS ARGUMENTS...
    gpu=$1 name=$2 dropout=$3 steps=$4
    shift 4
    CUDA_VISIBLE_DEVICES=$gpu python3 $here/tune.py --init "$student" --out "$work/tune-$name" --cache "$work/cache" \
        --corpus "$corpus" --lr 1e-4 --dropout "$dropout" --steps "$steps" "$@" >"$result/logs/tune-$name.log" 2>&1
}
tune 0 plain 0.1 300 &
jobs=$!
tune $((gpus > 1)) taught 0.0 250 --teachers "$work"/run-[0-9]-*/best.pt &
wait $jobs $!
python3 $here/merge.py "$work/merged.pt" "$work/tune-plain/tuned.pt" "$work/tune-taught/tuned.pt" || exit 1

say "phase 4: export"
export_model "$work/merged.pt" final 500
say "all finished"
