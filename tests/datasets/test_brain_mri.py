"""Irregular file names of public brain MRI."""

from pathlib import Path

import pytest

from medseg.commands.prepare_dataset import prepare_dataset
from medseg.data.readers import read_cases
from tests.commands.test_prepare_dataset import REGIONS, TISSUE, brats, ibsr18, levels, volume, voxels


def brats2015(folder: Path, seed: int) -> None:
    for number, sequence in enumerate(("MR_Flair", "MR_T1", "MR_T1c", "MR_T2")):
        name = f"VSD.Brain.XX.O.{sequence}.{54512 + number}"
        volume(folder / name / f"{name}.mha", seed=seed + number)
    name = "VSD.Brain_3more.XX.O.OT.54517"
    volume(folder / name / f"{name}.mha", levels(1, 2, 3, 4))


def test_read_brats_2015_with_a_folder_per_file(tmp_path: Path) -> None:
    names = ("HGG/brats_tcia_pat153_0002", "HGG/brats_tcia_pat153_0109", "HGG/brats_2013_pat0001_1",
             "LGG/brats_2013_pat0001_1")  # fmt: skip
    for seed, name in enumerate(names):
        brats2015(tmp_path / "raw" / "BRATS2015_Training" / name, 10 * seed)
    assert prepare_dataset("brats", tmp_path / "raw", tmp_path / "out").counts == {"ok": 4}
    cases = {case.name: case for case in read_cases(tmp_path / "out", ["flair", "t1", "t1c", "t2"])}
    assert {name: (case.patient, case.label) for name, case in cases.items()} == {
        "brats_tcia_pat153_0002": ("brats_tcia_pat153", "HGG"),
        "brats_tcia_pat153_0109": ("brats_tcia_pat153", "HGG"),
        "HGG_brats_2013_pat0001_1": ("HGG_brats_2013_pat0001", "HGG"),
        "LGG_brats_2013_pat0001_1": ("LGG_brats_2013_pat0001", "LGG"),
    }
    for case in cases.values():
        assert voxels(case, REGIONS) == {"whole_tumour": 10, "tumour_core": 8, "enhancing": 4}
        kinds = {channel: path.resolve().name.split(".")[4] for channel, path in case.images.items()}
        assert kinds == {"flair": "MR_Flair", "t1": "MR_T1", "t1c": "MR_T1c", "t2": "MR_T2"}


@pytest.mark.parametrize("name", ["W39_1998.09.19_Segm.nii", "SEGMENTATION.nii.gz"])
def test_read_brats_mask_with_irregular_name(tmp_path: Path, name: str) -> None:
    brats(tmp_path / "raw")
    (mask,) = (tmp_path / "raw").rglob("*_seg.nii.gz")
    mask.unlink()
    volume(mask.parent / name, levels(1, 2, 4))
    prepare_dataset("brats", tmp_path / "raw", tmp_path / "out")
    (case,) = read_cases(tmp_path / "out", ["flair"])
    assert voxels(case, REGIONS) == {"whole_tumour": 6, "tumour_core": 4, "enhancing": 3}
    volume(mask.parent / "old_segm2.nii", levels(1, 2, 4))
    (entry,) = prepare_dataset("brats", tmp_path / "raw", tmp_path / "again").entries
    assert entry.status == "failed"
    assert name in entry.message
    assert "old_segm2.nii" in entry.message


def test_read_ibsr18_takes_the_documented_mask(tmp_path: Path) -> None:
    ibsr18(tmp_path / "raw")
    for number in (1, 2):
        volume(tmp_path / "raw" / f"IBSR_0{number}" / f"IBSR_0{number}_segTRI_fill_ana.nii.gz", levels(3, 3, 3))
    prepare_dataset("ibsr18", tmp_path / "raw", tmp_path / "out")
    for case in read_cases(tmp_path / "out", ["t1"]):
        assert voxels(case, TISSUE) == {"csf": 1, "gm": 2, "wm": 3}
