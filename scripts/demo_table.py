"""The demo's last words: python scripts/demo_table.py FOLDER."""

import json
import sys
from pathlib import Path

folder = Path(sys.argv[1])
masks = json.loads((folder / "evaluation" / "metrics.json").read_text())
states = json.loads((folder / "diagnosis_metrics.json").read_text())
scores = states["models"]["lstm"]

print(f"\nUnseen synthetic patients: {states['n_patients']}, frames: {states['n_frames']}")
for name, label in masks["labels"].items():
    print(f"  Dice {name:<22} {label['dice']['mean']:.3f}")
print(f"  state accuracy (in/exhale)  {scores['accuracy']['mean']:.3f}")
print(f"  signal correlation          {scores['signal_correlation']['mean']:.3f}")
print(f"  report                      {(folder / 'report.html').resolve()}")
