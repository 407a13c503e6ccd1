import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from medseg.config.compose import compose
from medseg.config.features import feature_settings, features_for_labels
from medseg.data.cases import Case
from medseg.data.ground_truth import read_case_mask
from medseg.data.masks import MaskFolder, ground_truth_masks
from medseg.features.tables import read_tables
from medseg.inference.extractor import Extractor, LabelPresence
from medseg.io.labels import Labels

Command = Callable[..., Any]
LUNGS = Labels({"right_lung": 1, "left_lung": 2})


def test_extract_features_writes_rows_by_frame_and_slice(medseg: Command, breathing: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "features.csv"
    assert medseg("extract-features", breathing, breathing / "masks", out, "--features", "breathing").status == 0
    frames, steps, *_ = read_tables(out)
    assert steps is not None
    assert len(frames) == 5 * 8
    assert list(frames.columns[:6]) == ["case", "patient", "frame", "time", "label", "signal"]
    mask = sitk.ReadImage(str(breathing / "masks" / "lung000" / "frame_000.nii.gz"))
    inside = sitk.GetArrayFromImage(mask) == 1
    volume = inside.sum() * mask.GetSpacing()[0] * mask.GetSpacing()[1] * mask.GetSpacing()[2] / 1000
    assert frames["label_1.volume_ml"][0] == pytest.approx(volume)
    assert len(steps) == 5 * 8 * mask.GetSize()[2]
    units = json.loads((out.parent / "features_units.json").read_text())
    assert {column.split(".")[1] for column in frames if "." in column} <= set(units)
    assert json.loads(json.dumps(units))["volume_ml"].startswith("mL")


def test_extract_features_volume_correlates_with_signal(medseg: Command, breathing: Path, tmp_path: Path) -> None:
    medseg("extract-features", breathing, breathing / "masks", tmp_path / "f.csv", "--features", "breathing", "--quiet")
    frames = read_tables(tmp_path / "f.csv").frames
    for _, case_frames in frames.groupby("case"):
        assert case_frames["label_1.volume_ml"].corr(case_frames["signal"]) > 0.95


def test_extract_features_with_faulty_masks_logs_them_and_continues(
    medseg: Command, cohort: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    mask_files = sorted((cohort / "masks").glob("*.nii.gz"))
    for path in mask_files[:-1]:
        (masks / path.name).write_bytes(path.read_bytes())
    moved = sitk.ReadImage(str(mask_files[0]))
    moved.SetOrigin((1.0, 2.0, 3.0))
    sitk.WriteImage(moved, str(masks / mask_files[0].name))
    (masks / "labels.json").write_text('{"right_lung": 1, "left_lung": 2}')
    result = medseg("extract-features", cohort, masks, tmp_path / "f.csv", "--json")
    assert result.status == 3
    codes = {entry["case"]: entry["code"] for entry in json.loads(result.out)["entries"]}
    assert (codes["lung000"], codes["lung004"], codes["lung002"]) == ("mask-grid", "mask-missing", "")
    table = pd.read_csv(tmp_path / "f.csv")
    assert len(table) == 3
    assert "right_lung.mean_hu" in table


def test_extract_features_with_no_usable_case_is_status_1(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    path = sorted((cohort / "masks").glob("*.nii.gz"))[0]
    (tmp_path / "masks" / "other.nii.gz").write_bytes(path.read_bytes())
    options = ("--features", "breathing")
    result = medseg("extract-features", cohort / "images", tmp_path / "masks", tmp_path / "f.csv", *options)
    assert result.status == 1
    assert "no features could be extracted" in result.err
    assert medseg("extract-features", cohort, tmp_path / "no", tmp_path / "f.csv", *options).status == 2
    assert medseg("extract-features", cohort, cohort / "masks", tmp_path / "f.csv", "--features", "x").status == 2


@pytest.mark.parametrize(
    ("labels", "choice"),
    [
        (["lesion"], "dermoscopy"),
        (["right_lung", "left_lung"], "breathing"),
        (["hard_exudates", "haemorrhages"], "lesions"),
        (["csf", "gm", "wm"], "tissues"),
    ],
)
def test_features_for_labels_of_an_organ_is_its_choice(labels: list[str], choice: str) -> None:
    assert features_for_labels(labels) == choice


def test_extract_features_of_unknown_labels_needs_a_choice(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    result = medseg("extract-features", cohort, cohort / "masks", tmp_path / "f.csv")
    assert result.status == 2
    for word in ("--features", "label_1, label_2", "dermoscopy", "skin: dermoscopy", "radiomics fits any"):
        assert word in result.err
    assert not (tmp_path / "f.csv").exists()


def test_extractor_of_4d_file_equals_its_frames(breathing: Path, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        files = sorted((breathing / kind / "lung000").glob("*.nii.gz"))
        (tmp_path / kind).mkdir()
        sitk.WriteImage(sitk.JoinSeries([sitk.ReadImage(str(f)) for f in files]), str(tmp_path / kind / "a.nii.gz"))
    from medseg.data.readers import read_cases

    extractor = Extractor(compose(["organ=lung"]).features, LUNGS)
    whole = extractor(read_cases(tmp_path, ["ct"]), MaskFolder(tmp_path, tmp_path / "masks", LUNGS)).frames
    rows = [case for case in read_cases(breathing, ["ct"]) if case.id == "lung000"]
    from_frames = extractor(rows, read_case_mask).frames
    assert whole["frame"].tolist() == from_frames["frame"].tolist()
    assert whole["left_lung.volume_ml"].tolist() == pytest.approx(from_frames["left_lung.volume_ml"].tolist())


def test_extract_features_writes_case_log_next_to_table(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    medseg("extract-features", cohort, cohort / "masks", tmp_path / "f.csv", "--features", "breathing")
    with (tmp_path / "f_cases.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok"] * 5


def test_extractor_per_slice_labels_slices_by_mask(tmp_path: Path) -> None:
    values, inside = np.zeros((6, 20, 20)), np.zeros((6, 20, 20), np.uint8)
    values[:, 4:16, 4:16] = 100
    inside[2:4, 6:9, 6:9] = 1
    image, mask = sitk.GetImageFromArray(values), sitk.GetImageFromArray(inside)
    for volume in (image, mask):
        volume.SetDirection([1, 0, 0, 0, 1, 0, 0, 0, -1])  # the first slice in the file is the highest
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    sitk.WriteImage(mask, str(tmp_path / "a_mask.nii.gz"))
    case = Case("a", "a", {"mri": tmp_path / "a.nii.gz"}, tmp_path / "a_mask.nii.gz")
    labels = Labels({"tumour": 1})
    extractor = Extractor(feature_settings("slices"), labels, None, LabelPresence("tumour", "healthy", "ill"))
    frames = extractor([case], ground_truth_masks(labels)).frames
    assert frames["frame"].tolist() == list(range(6))
    assert frames["label"].tolist() == ["healthy", "healthy", "ill", "ill", "healthy", "healthy"]
    assert frames["tumour.size"].tolist() == [0, 0, 9, 9, 0, 0]


@pytest.mark.parametrize(("pixel_mm", "across"), [(0.025, 80 * 0.025), (None, None)])
def test_extractor_with_pixel_mm_gives_lengths_in_mm(
    tmp_path: Path, pixel_mm: float | None, across: float | None
) -> None:
    y, x = np.mgrid[:120, :160]
    inside = np.hypot(y - 60, x - 80) <= 40
    photo = np.where(inside[..., None], (90, 60, 50), (220, 180, 160)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(photo, isVector=True), str(tmp_path / "a.png"))
    mask = sitk.GetImageFromArray(inside.astype(np.uint8))
    features = compose(["organ=skin"]).features
    for max_side_px in (0, 320):  # at any resolution
        scaled = features.model_copy(update={"max_side_px": max_side_px, "pixel_mm": pixel_mm})
        extractor = Extractor(scaled, Labels({"lesion": 1}))
        frame = extractor([Case("a", "a", {"photo": tmp_path / "a.png"})], lambda _case, _image: mask).frames.iloc[0]
        diameter = frame[next(name for name in frame.index if name.endswith("diameter_mm"))]
        assert diameter == pytest.approx(across, rel=0.03) if across else np.isnan(diameter)
