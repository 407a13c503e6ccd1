#!/usr/bin/env bash
# README's numbers for the lung: bash scripts/lung_accuracy.sh DATA OUT
# DATA holds lctsc/, marker_signals/, cine_mri_*/ and tcia_4dlung_roi/. About 35 minutes on two cores.
# Each diagnosis twice: the LSTM beside a linear baseline, and (…_stack) logistic regression, ensemble, LSTM and their stack.
set -euo pipefail
data=$1 out=$2 here=$(dirname "$0")
mkdir -p "$out"

diagnosers() {  # RUN SETTINGS…
  medseg train organ=lung task=diagnosis "${@:2}" run_dir="$1"
  medseg train organ=lung task=diagnosis "${@:2}" classifier=stacking_frames run_dir="$1_stack"
}

# left and right lung on real CT: three patients train, two are reported
medseg train organ=lung data.root="$data/lctsc" data.split_column=split_in_repo run_dir="$out/segmenter" data.cache="$out/cache"

# simulated 4DCT: states and signal of patients and traces that were not trained on, measured inside predicted masks
python "$here/simulate_4dct.py" "$data/lctsc" "$data/marker_signals/tidy" "$out/simulated" --frames 50
medseg segment "$out/simulated" "$out/masks" --model "$out/segmenter" --glob 'images/*-10[24]_*'
python "$here/with_masks.py" "$out/simulated" "$out/masks" "$out/simulated_predicted"
diagnosers "$out/breathing" data.root="$out/simulated_predicted"

# cine MRI: leave one subject out, no masks
for subject in eth_sl14 ovgu_KS81 ovgu_QN76; do
  python "$here/cine_mri.py" "$data"/cine_mri_* --out "$out/cine_$subject" --hold-out "$subject"
  diagnosers "$out/run_$subject" features=motion data.root="$out/cine_$subject" data.time_axis=2
done

# real 4DCT phases of a tumour region, by a model of all three cine MRI subjects
python "$here/cine_mri.py" "$data"/cine_mri_* --out "$out/cine_all"
diagnosers "$out/run_cine_all" features=motion data.root="$out/cine_all" data.time_axis=2 data.test_fraction=0
python "$here/phases_4dct.py" "$data/tcia_4dlung_roi" "$out/tcia"
medseg diagnose "$out/tcia/features.csv" "$out/tcia/diagnosis.csv" --model "$out/run_cine_all"
medseg diagnose "$out/tcia/features.csv" "$out/tcia/stack.csv" --model "$out/run_cine_all_stack"
