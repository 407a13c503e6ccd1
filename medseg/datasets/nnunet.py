"""nnU-Net raw and Medical Segmentation Decathlon folders: dataset.json, imagesTr, labelsTr, imagesTs."""

from __future__ import annotations

import re
from pathlib import Path

from medseg.data.nnunet import ALL_CHANNELS, _case, _files_by_case, read_channel_names, read_label_names, read_nnunet
from medseg.datasets.base import DatasetCase, DatasetIndex, Mask, require_tree

TREE = """  dataset.json
  imagesTr/CASE_0000.nii.gz
  labelsTr/CASE.nii.gz"""


def as_source(root: Path) -> DatasetIndex:
    """The cases of an nnU-Net raw or MSD folder, channels by their names in dataset.json.

    A 4D file of MSD is split into its channels; red, green and blue in one file are one channel (a colour image).
    """
    values = read_label_names(root) if (root / "dataset.json").is_file() else None
    require_tree(values or [], root, TREE)
    channels = [re.sub(r"\W+", "_", name).lower() for name in read_channel_names(root)] or ["image"]
    files, masks = _files_by_case(root)
    require_tree(files, root, TREE)
    if [name[0] for name in channels] == ["r", "g", "b"] and all({*by_channel} == {0} for by_channel in files.values()):
        channels = ["image"]
    if len(channels) > 1 and all(ALL_CHANNELS in by_channel for by_channel in files.values()):
        stacked = True
        cases = [
            _case(name, dict.fromkeys(channels, by_channel[ALL_CHANNELS]), masks) for name, by_channel in files.items()
        ]
    else:
        stacked = False
        cases = read_nnunet(root, channels)
    rows = []
    for case in cases:
        images = dict(case.images) if len(channels) > 1 else {"": case.image}
        label_map = {"": Mask((case.mask,))} if case.mask is not None else {}
        rows.append(
            DatasetCase(case.name, images, label_map, {"patient": case.patient, "split": "train"}, stacked=stacked)
        )
    return DatasetIndex(rows, values or {})
