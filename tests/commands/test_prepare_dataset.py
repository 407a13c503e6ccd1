"""Small datasets in the official naming of each public set: what is written can be read, and means what it should."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medseg.commands.prepare_dataset import SOURCES, prepare_dataset
from medseg.data.cases import Case
from medseg.data.ground_truth import read_ground_truth
from medseg.data.readers import read_cases
from medseg.datasets.base import DatasetCase, Mask, merged, write_case
from medseg.errors import DataError
from medseg.io.image import read_image
from medseg.io.labels import Labels
from medseg.typing import ByteArray

Command = Callable[..., Any]


def write_image_2d(file: Path, seed: int, size: tuple[int, int] = (24, 32)) -> None:
    """A random 2D image, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR).save(file)


def square(file: Path, row: int, column: int, value: int = 255, size: tuple[int, int] = (24, 32)) -> None:
    """A mask with a square of 4 × 4 pixels."""
    array = np.zeros(size, np.uint8)
    array[row : row + 4, column : column + 4] = value
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)


def volume(file: Path, values: ByteArray | None = None, seed: int = 0) -> None:
    if values is None:
        values = np.random.default_rng(seed).integers(0, 255, (4, 8, 8)).astype(np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(file))


def levels(*numbers: int) -> ByteArray:
    """A label map (4, 8, 8) with a line of each number."""
    array = np.zeros((4, 8, 8), np.uint8)
    for row, number in enumerate(numbers):
        array[1, row % 8, : row + 1] = number
    return array


def text(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def isic2016(raw: Path) -> None:
    for split, number in (("Training", "0000000"), ("Test", "0000003")):
        write_image_2d(raw / f"ISBI2016_ISIC_Part1_{split}_Data" / f"ISIC_{number}.jpg", int(number))
        square(raw / f"ISBI2016_ISIC_Part1_{split}_GroundTruth" / f"ISIC_{number}_Segmentation.png", 3, 5)
    text(raw / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv", "ISIC_0000000,benign")
    text(raw / "ISBI2016_ISIC_Part3_Test_GroundTruth.csv", "ISIC_0000003,1.0")


def isic2017(raw: Path) -> None:
    for split, number in (("Training", "0000001"), ("Validation", "0000002"), ("Test_v2", "0000003")):
        write_image_2d(raw / f"ISIC-2017_{split}_Data" / f"ISIC_{number}.jpg", int(number))
        square(raw / f"ISIC-2017_{split}_Part1_GroundTruth" / f"ISIC_{number}_segmentation.png", 3, 5)
        malignant = "1.0" if number.endswith("2") else "0.0"
        text(
            raw / f"ISIC-2017_{split}_Part3_GroundTruth.csv",
            "image_id,melanoma,seborrheic_keratosis",
            f"ISIC_{number},{malignant},0.0",
        )
        write_image_2d(raw / f"ISIC-2017_{split}_Data" / f"ISIC_{number}_superpixels.png", 9)


def isic2018(raw: Path) -> None:
    write_image_2d(raw / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000000.jpg", 50)
    square(raw / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000000_segmentation.png", 3, 5)
    square(raw / "ISIC2018_Task2_Training_GroundTruth_v3" / "ISIC_0000000_attribute_globules.png", 9, 9)
    kinds = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    lines = ["image," + ",".join(kinds)]
    for number, kind in enumerate((*kinds, "NV")):
        write_image_2d(raw / "ISIC2018_Task3_Training_Input" / f"ISIC_002430{number}.jpg", number)
        lines.append(f"ISIC_002430{number}," + ",".join("1.0" if kind == other else "0.0" for other in kinds))
    text(raw / "ISIC2018_Task3_Training_GroundTruth" / "ISIC2018_Task3_Training_GroundTruth.csv", *lines)
    text(
        raw / "ISIC2018_Task3_Training_LesionGroupings.csv",
        "image,lesion_id,diagnosis_confirm_type",
        "ISIC_0024300,HAM_0000550,histopathology",
        "ISIC_0024301,HAM_0003577,single image expert consensus",
        "ISIC_0024307,HAM_0003577,single image expert consensus",
    )


def ph2(raw: Path) -> None:
    for name in ("IMD002", "IMD004"):
        folder = raw / "PH2 Dataset images" / name
        write_image_2d(folder / f"{name}_Dermoscopic_Image" / f"{name}.bmp", int(name[3:]))
        square(folder / f"{name}_lesion" / f"{name}_lesion.bmp", 3, 5)
    text(
        raw / "PH2_dataset.txt",
        "|| Name  || Histological Diagnosis || Clinical Diagnosis || Asymmetry ||",
        "|| IMD002 ||        || 0 || 0 ||",
        "|| IMD004 || Melanoma || 2 || 2 ||",
    )


def idrid_seg(raw: Path) -> None:
    for split, number in (("a. Training Set", "01"), ("b. Testing Set", "55")):
        write_image_2d(raw / "1. Original Images" / split / f"IDRiD_{number}.jpg", int(number))
        mask_folder = raw / "2. All Segmentation Groundtruths" / split
        square(mask_folder / "3. Hard Exudates" / f"IDRiD_{number}_EX.tif", 3, 5, 76)
        square(mask_folder / "5. Optic Disc" / f"IDRiD_{number}_OD.tif", 10, 10, 76)
    square(raw / "2. All Segmentation Groundtruths" / "a. Training Set" / "2. Haemorrhages" / "IDRiD_01_HE.tif", 9, 9)


def idrid_grading(raw: Path) -> None:
    for letter, split, grade in (("a", "Training", 3), ("b", "Testing", 0)):
        write_image_2d(raw / "1. Original Images" / f"{letter}. {split} Set" / "IDRiD_001.jpg", grade)
        text(
            raw / "2. Groundtruths" / f"{letter}. IDRiD_Disease Grading_{split} Labels.csv",
            "Image name,Retinopathy grade,Risk of macular edema ,,",
            f"IDRiD_001,{grade},2,,",
        )


def diaretdb1(raw: Path) -> None:
    for number in (1, 2):
        write_image_2d(raw / "resources/images/ddb1_fundusimages" / f"image00{number}.png", number)
        for folder in ("hardexudates", "softexudates", "hemorrhages", "redsmalldots"):
            strength = 255 if folder == "hemorrhages" else 128  # fewer than 75 % of the experts
            square(raw / "resources/images/ddb1_groundtruth" / folder / f"image00{number}.png", 3, 5, strength)
    text(raw / "resources/traindatasets/trainset.txt", "image001.png")
    text(raw / "resources/testdatasets/testset.txt", "image002.png")


def drive(raw: Path) -> None:
    for split, number in (("training", "21"), ("test", "01")):
        write_image_2d(raw / split / "images" / f"{number}_{split}.tif", int(number))
        square(raw / split / "1st_manual" / f"{number}_manual1.gif", 3, 5)
        square(raw / split / "mask" / f"{number}_{split}_mask.gif", 0, 0)


def busi(raw: Path) -> None:
    folder = raw / "Dataset_BUSI_with_GT"
    for seed, label in enumerate(("benign", "malignant", "normal")):
        write_image_2d(folder / label / f"{label} (1).png", seed)
        square(folder / label / f"{label} (1)_mask.png", 3, 5, 0 if label == "normal" else 255)
    square(folder / "benign" / "benign (1)_mask_1.png", 15, 20)
    write_image_2d(folder / "benign" / "benign (10).png", 77)
    square(folder / "benign" / "benign (10)_mask.png", 3, 5)


def busbra(raw: Path) -> None:
    for side in ("l", "r"):
        write_image_2d(raw / "BUSBRA/Images" / f"bus_0001-{side}.png", ord(side))
        square(raw / "BUSBRA/Masks" / f"mask_0001-{side}.png", 3, 5)
    text(
        raw / "BUSBRA/bus_data.csv",
        "ID,Case,Histology,Pathology,BIRADS",
        "bus_0001-l,1,Fibroadenoma,benign,2",
        "bus_0001-r,1,Carcinoma,malignant,5",
    )


def brats(raw: Path) -> None:
    folder = raw / "HGG" / "BraTS19_2013_10_1"
    for number, channel in enumerate(("flair", "t1", "t1ce", "t2")):
        volume(folder / f"{folder.name}_{channel}.nii.gz", seed=number)
    volume(folder / f"{folder.name}_seg.nii.gz", levels(1, 2, 4))


def ibsr18(raw: Path) -> None:
    for name in ("IBSR_01", "IBSR_02"):
        volume(raw / name / f"{name}_ana.nii.gz", seed=int(name[-1]))
        volume(raw / name / f"{name}_segTRI_ana.nii.gz", levels(1, 2, 3))


def mrbrains(raw: Path) -> None:
    for number in ("1", "4"):
        volume(raw / "training" / number / "pre" / "T1.nii.gz", seed=int(number))
        volume(raw / "training" / number / "pre" / "FLAIR.nii.gz", seed=int(number) + 1)
        volume(raw / "training" / number / "segm.nii.gz", levels(*range(1, 9)))


def nnunet(raw: Path) -> None:
    for name in ("liver_001", "liver_002"):
        volume(raw / "imagesTr" / f"{name}_0000.nii.gz", seed=int(name[-1]))
        volume(raw / "labelsTr" / f"{name}.nii.gz", levels(1, 2))
    text(
        raw / "dataset.json",
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}}',
    )


LESION = Labels({"lesion": 1})
FUNDUS = Labels({"haemorrhages": 1, "hard_exudates": 2}, exclusive=False)
TUMOUR = Labels({"tumour": 1})
TISSUE = Labels({"csf": 1, "gm": 2, "wm": 3})
REGIONS = Labels({"whole_tumour": 1, "tumour_core": 2, "enhancing": 3}, exclusive=False)
# maker, labels, channels, and for each case: voxels of each label, class, split
Wanted = dict[str, tuple[Any, str | None, str | None]]
EXPECTED: dict[str, tuple[Callable[[Path], None], Labels | None, list[str], Wanted]] = {
    "isic2016": (isic2016, LESION, ["photo"], {
        "ISIC_0000000": ({"lesion": 16}, "benign", "train"), "ISIC_0000003": ({"lesion": 16}, "malignant", "test")}),
    "isic2017": (isic2017, LESION, ["photo"], {
        "ISIC_0000001": ({"lesion": 16}, "benign", "train"), "ISIC_0000002": ({"lesion": 16}, "malignant", "valid"),
        "ISIC_0000003": ({"lesion": 16}, "benign", "test")}),
    "isic2018": (isic2018, None, ["photo"], {
        "ISIC_0000000": ({}, None, "train")} | {
        f"ISIC_002430{n}": ({}, "malignant" if n in (0, 2, 3) else "benign", "train") for n in range(8)}),
    "ph2": (ph2, LESION, ["photo"], {
        "IMD002": ({"lesion": 16}, "benign", None), "IMD004": ({"lesion": 16}, "malignant", None)}),
    "idrid_seg": (idrid_seg, FUNDUS, ["photo"], {
        "IDRiD_01": ({"haemorrhages": 16, "hard_exudates": 16}, None, "train"),
        "IDRiD_55": ({"haemorrhages": 0, "hard_exudates": 16}, None, "test")}),
    "idrid_grading": (idrid_grading, None, ["photo"], {
        "train_IDRiD_001": ({}, "3", "train"), "test_IDRiD_001": ({}, "0", "test")}),
    "diaretdb1": (diaretdb1, FUNDUS, ["photo"], {
        "image001": ({"haemorrhages": 16, "hard_exudates": 0}, None, "train"),
        "image002": ({"haemorrhages": 16, "hard_exudates": 0}, None, "test")}),
    "drive": (drive, Labels({"vessels": 1}), ["photo"], {
        "21_training": ({"vessels": 16}, None, "train"), "01_test": ({"vessels": 16}, None, "test")}),
    "busi": (busi, TUMOUR, ["echo"], {
        "benign_1": ({"tumour": 32}, "benign", None), "benign_10": ({"tumour": 16}, "benign", None),
        "malignant_1": ({"tumour": 16}, "malignant", None), "normal_1": ({"tumour": 0}, "normal", None)}),
    "busbra": (busbra, TUMOUR, ["echo"], {
        "bus_0001-l": ({"tumour": 16}, "benign", None), "bus_0001-r": ({"tumour": 16}, "malignant", None)}),
    "brats": (brats, REGIONS, ["flair", "t1c"], {
        "BraTS19_2013_10_1": ({"whole_tumour": 6, "tumour_core": 4, "enhancing": 3}, "HGG", None)}),
    "ibsr18": (ibsr18, TISSUE, ["t1"], {
        name: ({"csf": 1, "gm": 2, "wm": 3}, None, None) for name in ("IBSR_01", "IBSR_02")}),
    "mrbrains": (mrbrains, TISSUE, ["t1", "flair"], {
        name: ({"csf": 5 + 6, "gm": 1 + 2, "wm": 3 + 4}, None, None) for name in ("1", "4")}),
    "nnunet": (nnunet, Labels({"liver": 1, "tumour": 2}), ["ct"], {
        name: ({"liver": 1, "tumour": 2}, None, "train") for name in ("liver_001", "liver_002")}),
}  # fmt: skip


def voxels(case: Case, labels: Labels) -> Mapping[str, int]:
    truth = read_ground_truth(case, read_image(case.image), labels)
    array = sitk.GetArrayViewFromImage(truth.mask)
    return {name: int(labels.layer(array, name).sum()) for name in truth.known}


@pytest.mark.parametrize("name", EXPECTED)
def test_prepare_dataset_output_has_expected_cases(name: str, tmp_path: Path) -> None:
    make, labels, channels, expected = EXPECTED[name]
    make(tmp_path / "raw")
    log = prepare_dataset(name, tmp_path / "raw", tmp_path / "out")
    assert log.counts == {"ok": len(expected)}, [entry.message for entry in log.entries]
    cases_by_name = {case.name: case for case in read_cases(tmp_path / "out", channels)}
    assert cases_by_name.keys() == expected.keys()
    for case, (counts, label, split) in expected.items():
        assert cases_by_name[case].label == label
        assert cases_by_name[case].split == split
        assert list(cases_by_name[case].images) == channels
        assert cases_by_name[case].image.is_symlink()
        if labels is not None:
            assert voxels(cases_by_name[case], labels) == counts
        for channel in cases_by_name[case].images.values():
            read_image(channel)


def test_expected_covers_all_sources_except_dicom() -> None:
    assert set(SOURCES) - set(EXPECTED) == {"lctsc"}  # tests/data/sources/test_lctsc.py


def test_prepare_dataset_keeps_a_patients_images_in_one_split(tmp_path: Path) -> None:
    busbra(tmp_path / "raw")
    prepare_dataset("busbra", tmp_path / "raw", tmp_path / "out")
    assert {case.patient for case in read_cases(tmp_path / "out", ["echo"])} == {"1"}


def test_prepare_dataset_reads_brats_2023_names(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "BraTS-GLI-00005-001"
    for number, channel in enumerate(("t2f", "t1n", "t1c", "t2w")):
        volume(folder / f"{folder.name}-{channel}.nii.gz", seed=number)
    volume(folder / f"{folder.name}-seg.nii.gz", levels(1, 2, 3))
    prepare_dataset("brats", tmp_path / "raw", tmp_path / "out")
    case = read_cases(tmp_path / "out", ["flair", "t1c"])[0]
    assert case.patient == "BraTS-GLI-00005"
    assert voxels(case, REGIONS) == {"whole_tumour": 6, "tumour_core": 4, "enhancing": 3}


def test_broken_file_is_logged_and_others_continue(medseg: Command, tmp_path: Path) -> None:
    busi(tmp_path / "raw")
    (tmp_path / "raw/Dataset_BUSI_with_GT/malignant/malignant (1)_mask.png").write_bytes(b"\x89PNG broken")
    result = medseg("data", "prepare", "busi", tmp_path / "raw", tmp_path / "out")
    assert result.status == 3
    assert "malignant (1)_mask.png" in result.err
    with (tmp_path / "out" / "cases.csv").open() as file:
        assert {row["case"] for row in csv.DictReader(file)} == {"benign_1", "benign_10", "normal_1"}


def test_prepare_dataset_with_masks_of_other_size_fails_case(tmp_path: Path) -> None:
    busi(tmp_path / "raw")
    square(tmp_path / "raw/Dataset_BUSI_with_GT/benign/benign (1)_mask_1.png", 1, 1, 255, (10, 10))
    log = prepare_dataset("busi", tmp_path / "raw", tmp_path / "out")
    failed = [entry for entry in log.entries if entry.status == "failed"]
    assert [entry.case for entry in failed] == ["benign_1"]
    assert "(10, 10)" in failed[0].message


def test_prepare_dataset_reports_duplicates(tmp_path: Path) -> None:
    busi(tmp_path / "raw")
    folder = tmp_path / "raw" / "Dataset_BUSI_with_GT"
    (folder / "malignant" / "malignant (2).png").write_bytes((folder / "benign" / "benign (1).png").read_bytes())
    square(folder / "malignant" / "malignant (2)_mask.png", 3, 5)
    log = prepare_dataset("busi", tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out" / "duplicates.csv").read_text().splitlines()[1:] == ["benign_1,malignant_2,exact,False"]
    assert {entry.case for entry in log.entries if entry.status == "review"} == {"benign_1", "malignant_2"}


def test_prepare_dataset_with_invalid_arguments_is_an_error(tmp_path: Path) -> None:
    busi(tmp_path / "raw")
    with pytest.raises(DataError, match="did you mean busi"):
        prepare_dataset("bussi", tmp_path / "raw", tmp_path / "out")
    with pytest.raises(DataError, match=r"expected below it:\n  HGG"):
        prepare_dataset("brats", tmp_path / "raw", tmp_path / "out")
    with pytest.raises(DataError, match="no such folder"):
        prepare_dataset("busi", tmp_path / "nowhere", tmp_path / "out")
    prepare_dataset("busi", tmp_path / "raw", tmp_path / "out")
    with pytest.raises(DataError, match="is not empty"):
        prepare_dataset("busi", tmp_path / "raw", tmp_path / "out")


def test_prepare_dataset_replaces_unfinished_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busi(tmp_path / "raw")
    out, placed = tmp_path / "out", write_case

    def interrupted(row: DatasetCase, out: Path) -> dict[str, str]:
        if row.case == "normal_1":
            raise KeyboardInterrupt
        return placed(row, out)

    monkeypatch.setattr("medseg.commands.prepare_dataset.write_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset("busi", tmp_path / "raw", out)
    assert (out / "images").is_dir()
    assert not (out / "cases.csv").exists()
    monkeypatch.undo()
    assert prepare_dataset("busi", tmp_path / "raw", out).counts == {"ok": 4}


@pytest.mark.parametrize("theirs", [["images/mine.png"], ["prepare_dataset.csv", "notes.txt"], [".hidden"]])
def test_prepare_dataset_keeps_foreign_files(tmp_path: Path, theirs: list[str]) -> None:
    busi(tmp_path / "raw")
    for name in theirs:
        text(tmp_path / "out" / name, "mine")
    with pytest.raises(DataError, match="is not empty"):
        prepare_dataset("busi", tmp_path / "raw", tmp_path / "out")
    assert all((tmp_path / "out" / name).read_text() == "mine\n" for name in theirs)


def test_prepare_dataset_thresholds_soft_masks(tmp_path: Path) -> None:
    drawn = np.zeros((24, 24), np.uint8)
    drawn[6:18, 6:18] = 255
    Image.fromarray(drawn).save(tmp_path / "m.jpg", quality=60)
    assert len(np.unique(np.asarray(Image.open(tmp_path / "m.jpg")))) > 2
    np.testing.assert_array_equal(merged(Mask((tmp_path / "m.jpg",), level=1)), drawn > 0)
