#!/bin/sh
# Follows main.sh for at most SECONDS and copies what it has produced so far: follow.sh WORK SECONDS OUT
work=$1 until=$(($(date +%s) + $2)) out=$3
while [ "$(date +%s)" -lt "$until" ] && ! grep -q 'all finished' "$work/status"; do sleep 3; done
cat "$work/status"
for f in "$work"/result/logs/*.log; do
    echo "== $f"
    tail -n 4 "$f" | cut -c 1-400
done
tar -czf "$out/logs.tar.gz" -C "$work" --exclude='*.pt' result/logs status
for kind in final first; do
    [ -d "$work/result/$kind" ] && cp "$work/result/$kind"/* "$out" && break
done
ls -l "$out"
