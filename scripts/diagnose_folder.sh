#!/usr/bin/env bash
# An unattended diagnosis: bash scripts/diagnose_folder.sh IMAGES OUT SEGMENTER_RUN CLASSIFIER_RUN
# Masks, features, diagnoses and diagnosis.html land in OUT, with a case log of each step. Cases that fail are left out and named.
# Exit status: 0 all well, 1 nothing worked, 2 wrong use or model, 3 some cases failed, 130 interrupted.
set -uo pipefail
[ $# -eq 4 ] || { echo "usage: $0 IMAGES OUT SEGMENTER_RUN CLASSIFIER_RUN" >&2; exit 2; }
images=$1 out=$2 segmenter=$3 classifier=$4
worst=0

step() {  # runs a command; goes on after 0 and 3, ends on anything else
  "$@"
  local status=$?
  [ $status -eq 0 ] || [ $status -eq 3 ] || exit $status
  [ $status -eq 0 ] || worst=3
}

mkdir -p "$out" || exit 1
step medseg segment "$images" "$out/masks" --model "$segmenter" --quiet
step medseg diagnose "$images" "$out/diagnosis.csv" --model "$classifier" --masks "$out/masks" --quiet
step medseg report "$out/diagnosis.json" >/dev/null
echo "$out/diagnosis.csv and .json, the page $out/diagnosis.html; what became of each case: $out/masks/cases.csv, $out/diagnosis_cases.csv"
exit $worst
