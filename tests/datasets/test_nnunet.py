from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

from medseg.commands.prepare_dataset import prepare_dataset
from medseg.data.ground_truth import read_ground_truth
from medseg.data.readers import read_cases
from medseg.errors import DataError
from medseg.io.image import read_image
from medseg.io.labels import Labels


def volume(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 4, 4), np.uint8)), str(path))


def test_as_source_reads_numbered_channels(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    for name in ("imagesTr/p_1_0000", "imagesTr/p_1_0001", "labelsTr/p_1", "imagesTr/q_0000", "imagesTr/q_0001"):
        volume(tmp_path / f"{name}.nii.gz")
    p, q = read_cases(tmp_path, ["flair", "t1c"])
    assert (p.id, p.images["t1c"].name) == ("p_1", "p_1_0001.nii.gz")
    assert p.mask == tmp_path / "labelsTr" / "p_1.nii.gz"
    assert (q.id, q.mask) == ("q", None)
    (tmp_path / "imagesTr" / "q_0001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"q has no file q_0001\.\* for channel 't1c'"):
        read_cases(tmp_path, ["flair", "t1c"])


def test_as_source_decathlon_has_one_file_per_case(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    volume(tmp_path / "imagesTr" / "lung_0001.nii.gz")
    volume(tmp_path / "labelsTr" / "lung_0001.nii.gz")
    (case,) = read_cases(tmp_path, ["ct"])
    assert case.id == "lung_0001"
    assert case.mask is not None


def test_as_source_without_images_raises(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match="imagesTr"):
        read_cases(tmp_path, ["ct"])


def decathlon(root: Path, size: tuple[int, ...] = (4, 3, 6, 5)) -> npt.NDArray[np.int16]:
    """Task 1 as it comes: BRATS_001.nii.gz of X × Y × Z × 4; the values (channel, Z, Y, X)."""
    values = np.random.default_rng(0).integers(0, 255, size).astype(np.int16)
    image = sitk.JoinSeries([sitk.GetImageFromArray(volume) for volume in values])
    image.SetSpacing((1.0, 1.5, 2.0, 1.0))
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    sitk.WriteImage(image, str(root / "imagesTr" / "BRATS_001.nii.gz"))
    mask = sitk.GetImageFromArray((values[0] > 128).astype(np.uint8))
    mask.SetSpacing((1.0, 1.5, 2.0))
    sitk.WriteImage(mask, str(root / "labelsTr" / "BRATS_001.nii.gz"))
    (root / "dataset.json").write_text(
        '{"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, "labels": {"0": "background", "1": "edema"}}'
    )
    return values


def test_prepare_dataset_splits_decathlon_channels(tmp_path: Path) -> None:
    values = decathlon(tmp_path / "raw")
    assert prepare_dataset("nnunet", tmp_path / "raw", tmp_path / "out").counts == {"ok": 1}
    (case,) = read_cases(tmp_path / "out", ["flair", "t1w", "t1gd", "t2w"])
    labels = Labels({"edema": 1})
    truth = read_ground_truth(case, read_image(case.image), labels).mask
    assert np.array_equal(sitk.GetArrayFromImage(truth), values[0] > 128)
    for file, expected in zip(case.images.values(), values, strict=True):
        image = read_image(file)
        assert image.GetSpacing() == (1.0, 1.5, 2.0)
        assert np.array_equal(sitk.GetArrayFromImage(image), expected)


def test_read_cases_unsplit_decathlon_channels_raise_with_remedy(tmp_path: Path) -> None:
    decathlon(tmp_path)
    for channels in (["flair", "t1c"], ["flair"]):
        with pytest.raises(DataError, match=r"BRATS_001.*medseg data prepare nnunet"):
            read_cases(tmp_path, channels)


def test_prepare_dataset_wrong_number_of_channels_fails(tmp_path: Path) -> None:
    decathlon(tmp_path / "raw", (3, 3, 6, 5))
    (entry,) = prepare_dataset("nnunet", tmp_path / "raw", tmp_path / "out").entries
    assert "BRATS_001.nii.gz: has 3 volumes for 4 channels (flair, t1w, t1gd, t2w)" in entry.message


def test_as_source_rgb_file_is_one_channel(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    colours = np.random.default_rng(0).integers(0, 255, (6, 5, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(raw / "imagesTr" / "c0_0000.png"))
    sitk.WriteImage(sitk.GetImageFromArray((colours[..., 0] > 99).astype(np.uint8)), str(raw / "labelsTr" / "c0.png"))
    (raw / "dataset.json").write_text(
        '{"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "road": 1}, '
        '"file_ending": ".png"}'
    )
    assert prepare_dataset("nnunet", raw, tmp_path / "out").counts == {"ok": 1}
    for root in (tmp_path / "out", raw):
        (case,) = read_cases(root, ["photo"])
        assert case.mask is not None
        assert np.array_equal(sitk.GetArrayFromImage(read_image(case.image)), colours)


def test_read_cases_unnumbered_channels_raise(tmp_path: Path) -> None:
    decathlon(tmp_path)
    (tmp_path / "dataset.json").write_text('{"channel_names": ["CT"], "labels": {"liver": 1}}')
    with pytest.raises(DataError, match=r"dataset\.json: must state channels"):
        read_cases(tmp_path, ["ct"])
