#!/usr/bin/env bash
# The main job on synthetic data, from nothing to a report: bash scripts/demo.sh [FOLDER]
# Needs `medseg` on the PATH (`make demo` sees to that). No network, no data.
set -euo pipefail
out=${1:-demo}
rm -rf "$out"
mkdir -p "$out"

# all of this folder is synthetic: a model of phantoms need not warn of real images here
echo '{"synthetic": true}' > "$out/phantom.json"

# a small synthetic cohort: CTs to learn lungs from, 4DCTs to learn breathing from, and patients nobody has seen
medseg data phantom lung "$out/cts" --patients 16 --seed 1
medseg data phantom lung "$out/breathing" --patients 8 --frames 24 --seed 2
medseg data phantom lung "$out/unseen" --patients 3 --frames 16 --seed 3

# the two models
medseg train organ=lung data.root="$out/cts" data.cache="$out/cache" run_dir="$out/segmenter" segmenter.max_samples=1600
medseg train organ=lung task=diagnosis data.root="$out/breathing" run_dir="$out/diagnoser"

# the unseen patients: masks, features, diagnosis
medseg segment "$out/unseen/images" "$out/masks" --model "$out/segmenter"
medseg evaluate "$out/masks" "$out/unseen/masks" --out "$out/evaluation"
medseg extract-features "$out/unseen" "$out/masks" "$out/features.csv"
medseg diagnose "$out/features.csv" "$out/diagnosis.csv" --model "$out/diagnoser"
medseg report "$out/segmenter" "$out/diagnoser" "$out/evaluation" --out "$out/report.html" > /dev/null

python "$(dirname "$0")/demo_table.py" "$out"
