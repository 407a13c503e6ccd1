"""A dataset whose held-out cases have other masks: python scripts/with_masks.py DATASET MASKS OUT.

OUT/cases.csv names the images of DATASET; training rows keep its masks, all other rows get those of MASKS (a tree that
`medseg segment DATASET MASKS` wrote). So a diagnosis learns from expert masks and is measured on predicted ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from medseg.io.image import stem

dataset, masks, out = (Path(argument).resolve() for argument in sys.argv[1:4])
table = pd.read_csv(dataset / "cases.csv")
held = table["split"] != "train"
predicted = [str(masks / Path(image).parent / f"{stem(Path(image))}.nii.gz") for image in table["image"]]
table["mask"] = [str(dataset / mask) for mask in table["mask"]]
table.loc[held, "mask"] = pd.Series(predicted)[held]
table["image"] = [str(dataset / image) for image in table["image"]]
out.mkdir(parents=True, exist_ok=True)
table.to_csv(out / "cases.csv", index=False)
