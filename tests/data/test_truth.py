from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.data.labels import Labels, plain
from medseg.data.truth import read_masks, read_truth, write_masks
from medseg.errors import ImageError

TISSUES = Labels({"csf": 1, "gm": 2, "wm": 3})
LESIONS = Labels({"dark": 1, "bright": 2}, exclusive=False)
IMAGE = sitk.Image([4, 1], sitk.sitkUInt8)


def write(path: Path, row: list[int]) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.array([row], np.uint8)), str(path))
    return path


def case(folder: Path, row: list[int], **more: object) -> Case:
    return replace(Case("c", "c", {"photo": folder / "c.png"}, write(folder / "m.png", row)), **more)  # type: ignore[arg-type]


def row_of(mask: sitk.Image) -> list[int]:
    return sitk.GetArrayFromImage(mask)[0].tolist()  # type: ignore[no-any-return]


def test_values_are_mapped_by_name(tmp_path: Path) -> None:
    found = read_truth(case(tmp_path, [1, 2, 3, 4], values={"CSF": (1,), "gm": (2, 4), "wm": (3,)}), IMAGE, TISSUES)
    assert row_of(found.mask) == [1, 2, 3, 2]
    assert found.known == ("csf", "gm", "wm")


def test_a_label_that_the_dataset_does_not_name_is_unknown(tmp_path: Path) -> None:
    found = read_truth(
        case(tmp_path, [0, 2, 3, 7], values={"wm": (3,), "gm": (2,), "background": (7,)}), IMAGE, TISSUES
    )
    assert row_of(found.mask) == [0, 2, 3, 0]
    assert found.known == ("gm", "wm")


def test_a_value_without_a_name_is_an_error_with_the_setting_to_paste(tmp_path: Path) -> None:
    with pytest.raises(
        ImageError, match=r"holds \[9\].*data.mask_values=\{csf: \[1\], gm: \[2\], wm: \[3\], background: \[9\]\}"
    ):
        read_truth(case(tmp_path, [0, 1, 2, 9]), IMAGE, TISSUES)


def test_no_name_in_common_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="none of csf, gm, wm is annotated; the dataset has tumour"):
        read_truth(case(tmp_path, [0, 1, 0, 1], values={"tumour": (1,)}), IMAGE, TISSUES)


@pytest.mark.parametrize("value", [1, 128, 255])
def test_one_label_may_be_drawn_in_any_value(tmp_path: Path, value: int) -> None:
    assert row_of(read_truth(case(tmp_path, [0, value, value, 0]), IMAGE, Labels({"lesion": 1})).mask) == [0, 1, 1, 0]


def test_files_of_their_own_may_overlap_and_be_absent_or_unknown(tmp_path: Path) -> None:
    dark, bright = write(tmp_path / "d.png", [255, 255, 0, 0]), write(tmp_path / "b.png", [0, 1, 1, 0])
    both = Case("c", "c", {"photo": tmp_path / "c.png"}, masks={"dark": dark, "bright": bright})
    assert row_of(read_truth(both, IMAGE, LESIONS).mask) == [1, 3, 2, 0]
    absent = read_truth(replace(both, masks={"dark": dark, "bright": None}), IMAGE, LESIONS)
    assert (row_of(absent.mask), absent.known) == ([1, 1, 0, 0], ("dark", "bright"))
    unknown = read_truth(replace(both, masks={"dark": dark}), IMAGE, LESIONS)
    assert (row_of(unknown.mask), unknown.known) == ([1, 1, 0, 0], ("dark",))


def test_a_mask_of_another_size_is_an_error_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"\(3, 1\) and \(4, 1\)"):
        read_truth(case(tmp_path, [0, 1, 2]), IMAGE, TISSUES)


@pytest.mark.parametrize("labels", [TISSUES, LESIONS])
def test_what_is_written_is_read_again(tmp_path: Path, labels: Labels) -> None:
    coded = sitk.GetImageFromArray(np.array([[0, 1, 2, 3]], np.uint8))
    write_masks(coded, tmp_path / "out" / "c.png", labels)
    assert row_of(read_masks(tmp_path / "out" / "c.png", labels)) == [0, 1, 2, 3]
    names = {"c.png"} if labels.exclusive else {"c_dark.png", "c_bright.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_names_are_spelt_in_one_way() -> None:
    assert {plain(name) for name in ("Left Lung", "left-lung", " left_lung")} == {"left_lung"}
