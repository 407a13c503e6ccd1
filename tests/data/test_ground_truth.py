import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medseg.data.cases import Case
from medseg.data.ground_truth import read_ground_truth, read_masks, write_masks
from medseg.errors import ImageError
from medseg.io.labels import Labels, normalize_name

TISSUES = Labels({"csf": 1, "gm": 2, "wm": 3})
LESIONS = Labels({"dark": 1, "bright": 2}, exclusive=False)
LESION = Labels({"lesion": 1})
IMAGE = sitk.Image([4, 1], sitk.sitkUInt8)


def write(path: Path, row: list[int]) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.array([row], np.uint8)), str(path))
    return path


def case(folder: Path, row: list[int], **more: object) -> Case:
    return replace(Case("c", "c", {"photo": folder / "c.png"}, write(folder / "m.png", row)), **more)  # type: ignore[arg-type]


def row_of(mask: sitk.Image) -> list[int]:
    return sitk.GetArrayFromImage(mask)[0].tolist()  # type: ignore[no-any-return]


def test_values_are_mapped_by_name(tmp_path: Path) -> None:
    found = read_ground_truth(
        case(tmp_path, [1, 2, 3, 4], values={"CSF": (1,), "gm": (2, 4), "wm": (3,)}), IMAGE, TISSUES
    )
    assert row_of(found.mask) == [1, 2, 3, 2]
    assert found.known == ("csf", "gm", "wm")


def test_a_label_that_the_dataset_does_not_name_is_unknown(tmp_path: Path) -> None:
    found = read_ground_truth(
        case(tmp_path, [0, 2, 3, 7], values={"wm": (3,), "gm": (2,), "background": (7,)}), IMAGE, TISSUES
    )
    assert row_of(found.mask) == [0, 2, 3, 0]
    assert found.known == ("gm", "wm")


def test_a_value_without_a_name_is_an_error_with_the_setting_to_paste(tmp_path: Path) -> None:
    with pytest.raises(
        ImageError, match=r"holds \[9\].*data.mask_values=\{csf: \[1\], gm: \[2\], wm: \[3\], background: \[9\]\}"
    ):
        read_ground_truth(case(tmp_path, [0, 1, 2, 9]), IMAGE, TISSUES)


def test_no_name_in_common_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="none of csf, gm, wm is annotated; the dataset has tumour"):
        read_ground_truth(case(tmp_path, [0, 1, 0, 1], values={"tumour": (1,)}), IMAGE, TISSUES)


@pytest.mark.parametrize("value", [1, 255])
def test_one_label_may_be_drawn_in_black_and_white(tmp_path: Path, value: int) -> None:
    assert row_of(read_ground_truth(case(tmp_path, [0, value, value, 0]), IMAGE, LESION).mask) == [0, 1, 1, 0]


@pytest.mark.parametrize("value", [2, 128, 254])
def test_another_value_alone_is_not_taken_for_the_label(tmp_path: Path, value: int) -> None:
    with pytest.raises(
        ImageError,
        match=rf"'data.mask_values=\{{lesion: \[1, {value}\]\}}' where they are lesion, "
        rf"'data.mask_values=\{{lesion: \[1\], background: \[{value}\]\}}' where not",
    ):
        read_ground_truth(case(tmp_path, [0, value, value, 0]), IMAGE, LESION)
    given = case(tmp_path, [0, value, value, 0], values={"lesion": (value,)})
    assert row_of(read_ground_truth(given, IMAGE, LESION).mask) == [0, 1, 1, 0]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("values", [None, {"lesion": (255,)}])
@pytest.mark.parametrize("end", [".jpg", ".png"])
def test_what_jpeg_adds_beside_black_and_white_is_thresholded_at_half(
    tmp_path: Path, own: bool, values: dict[str, tuple[int, ...]] | None, end: str
) -> None:
    y, x = np.mgrid[:200, :200]
    disc = np.hypot(y - 100, x - 100) < 60
    Image.fromarray(disc.astype(np.uint8) * 255).save(tmp_path / "m.jpg", quality=90)
    blurred = sitk.ReadImage(str(tmp_path / "m.jpg"))
    assert len(np.unique(sitk.GetArrayFromImage(blurred))) > 20
    file = tmp_path / f"{end[1:]}{end}"
    if end == ".jpg":
        shutil.copy(tmp_path / "m.jpg", file)
    else:
        sitk.WriteImage(blurred, str(file))
    given = Case(
        "c", "c", {"photo": tmp_path / "c.png"}, None if own else file, {"lesion": file} if own else {}, values
    )
    found = read_ground_truth(given, sitk.Image([200, 200], sitk.sitkUInt8), LESION)
    assert np.array_equal(sitk.GetArrayFromImage(found.mask), disc)
    assert found.thresholded == (file,)


def test_label_numbers_are_never_thresholded(tmp_path: Path) -> None:
    """Some numbers of small classes and 255 for none, as in street scenes, crowd near black and white too."""
    with pytest.raises(ImageError, match=r"holds \[2, 3, 255\]"):
        read_ground_truth(case(tmp_path, [1, 2, 3, 255]), IMAGE, LESION)
    named = {"lesion": (255,), "background": (1, 2, 3)}
    found = read_ground_truth(case(tmp_path, [1, 2, 3, 255], values=named), IMAGE, LESION)
    assert (row_of(found.mask), found.thresholded) == ([0, 0, 0, 1], ())


def test_a_soft_file_of_one_label_is_thresholded_at_half_and_small_numbers_are_an_error(tmp_path: Path) -> None:
    def of(row: list[int]) -> Case:
        return Case("c", "c", {"photo": tmp_path / "c.png"}, masks={"dark": write(tmp_path / "d.png", row)})

    assert row_of(read_ground_truth(of([3, 127, 128, 255]), IMAGE, LESIONS).mask) == [0, 0, 1, 1]
    assert row_of(read_ground_truth(of([0, 7, 7, 0]), IMAGE, LESIONS).mask) == [0, 1, 1, 0]
    with pytest.raises(ImageError, match=r"d\.png: holds 3 values up to 2.*save it as 0 and 255"):
        read_ground_truth(of([0, 1, 2, 0]), IMAGE, LESIONS)


def test_pixels_to_be_ignored_are_never_background_unasked(tmp_path: Path) -> None:
    values = {"lesion": (1,), "ignore": (2,)}
    with pytest.raises(ImageError, match=r"holds \[2\], pixels to be ignored.*'data.mask_values=\{lesion: \[1\], back"):
        read_ground_truth(case(tmp_path, [0, 1, 2, 0], values=values), IMAGE, LESION)
    assert row_of(read_ground_truth(case(tmp_path, [0, 1, 1, 0], values=values), IMAGE, LESION).mask) == [0, 1, 1, 0]


def test_files_of_their_own_may_overlap_and_be_absent_or_unknown(tmp_path: Path) -> None:
    dark, bright = write(tmp_path / "d.png", [255, 255, 0, 0]), write(tmp_path / "b.png", [0, 1, 1, 0])
    both = Case("c", "c", {"photo": tmp_path / "c.png"}, masks={"dark": dark, "bright": bright})
    assert row_of(read_ground_truth(both, IMAGE, LESIONS).mask) == [1, 3, 2, 0]
    absent = read_ground_truth(replace(both, masks={"dark": dark, "bright": None}), IMAGE, LESIONS)
    assert (row_of(absent.mask), absent.known) == ([1, 1, 0, 0], ("dark", "bright"))
    unknown = read_ground_truth(replace(both, masks={"dark": dark}), IMAGE, LESIONS)
    assert (row_of(unknown.mask), unknown.known) == ([1, 1, 0, 0], ("dark",))


def test_a_mask_of_another_size_is_an_error_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"\(3, 1\) and \(4, 1\)"):
        read_ground_truth(case(tmp_path, [0, 1, 2]), IMAGE, TISSUES)


@pytest.mark.parametrize("labels", [TISSUES, LESIONS])
def test_what_is_written_is_read_again(tmp_path: Path, labels: Labels) -> None:
    coded = sitk.GetImageFromArray(np.array([[0, 1, 2, 3]], np.uint8))
    write_masks(coded, tmp_path / "out" / "c.png", labels)
    assert row_of(read_masks(tmp_path / "out" / "c.png", labels)) == [0, 1, 2, 3]
    names = {"c.png"} if labels.exclusive else {"c_dark.png", "c_bright.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_names_are_spelt_in_one_way() -> None:
    assert {normalize_name(name) for name in ("Left Lung", "left-lung", " left_lung")} == {"left_lung"}
