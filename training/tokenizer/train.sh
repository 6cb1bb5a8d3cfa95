#!/bin/sh
# Trains the bundled model's tokenizer: SentencePiece BPE, 8,192 pieces, laid out as Gemma's is.
# usage: sample.py CORPUS SAMPLE; train.sh SAMPLE OUT_PREFIX     (spm_train: Debian package `sentencepiece`)
set -eu
nl='
'
# <start_of_turn> and <end_of_turn> follow the four special ids; then newline and space runs as single pieces, since the
# trainer itself reads lines and collapses nothing: "\n\n" (a paragraph end) is the commonest of them.
spm_train --input="$1" --model_prefix="$2" --model_type=bpe --vocab_size=8192 \
    --pad_id=0 --eos_id=1 --bos_id=2 --unk_id=3 \
    --pad_piece='<pad>' --eos_piece='<eos>' --bos_piece='<bos>' --unk_piece='<unk>' \
    --user_defined_symbols="<start_of_turn>,<end_of_turn>,$nl,$nl$nl,$nl$nl$nl,▁▁,▁▁▁,▁▁▁▁" \
    --normalization_rule_name=identity --add_dummy_prefix=false --remove_extra_whitespaces=false \
    --byte_fallback=true --split_digits=true --character_coverage=1.0 \
    --max_sentence_length=32768 --input_sentence_size=0 --num_threads="${THREADS:-1}"
