"""Volumes of a few voxels, whatever the order of their axes."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.features.axial import axial, axial_slices, regions, step_regions, table
from medseg.io.labels import Labels

SHAPE = (4, 3, 2)  # z y x


def volume() -> sitk.Image:
    """Values 0 … 23, voxels of 1 × 2 × 3 mm, LPS."""
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.float32).reshape(SHAPE))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((5.0, 6.0, 7.0))
    return image


def mask() -> sitk.Image:
    image = sitk.GetImageFromArray((np.arange(24) % 3).astype(np.uint8).reshape(SHAPE))
    image.CopyInformation(volume())
    return image


def orders() -> list[str]:
    """Some of the 48 orders and flips of the axes."""
    return ["".join(p) for axes in itertools.permutations("LPS") for p in (axes,)] + ["RAI", "SAR", "PIR"]


@pytest.mark.parametrize("order", orders())
def test_any_order_of_axes_is_turned_to_the_patients(order: str) -> None:
    one, seen = axial(sitk.DICOMOrient(volume(), order), sitk.DICOMOrient(mask(), order)), axial(volume(), mask())
    assert one.values.tolist() == seen.values.tolist() == np.arange(24).reshape(SHAPE).tolist()
    assert one.mask.tolist() == (np.arange(24).reshape(SHAPE) % 3).tolist()
    assert one.spacing == seen.spacing == (3.0, 2.0, 1.0)
    assert one.heights.tolist() == [7, 10, 13, 16]
    assert (one.voxel_ml, one.pixel_mm2) == (6 / 1000, 2)


@pytest.mark.parametrize("order", ["LPS", "RAI", "SLP", "IPR"])
def test_slices_and_their_regions_run_from_inferior_to_superior(order: str) -> None:
    turned = sitk.DICOMOrient(volume(), order)
    slices = axial_slices(turned)
    assert [sitk.GetArrayFromImage(axial_slice)[0, 0] for axial_slice in slices] == [0, 6, 12, 18]
    numbers = step_regions(turned)
    assert numbers.GetSize() == turned.GetSize()
    back = sitk.GetArrayFromImage(sitk.DICOMOrient(numbers, "LPS"))
    assert back.tolist() == np.broadcast_to(np.arange(1, 5)[:, None, None], SHAPE).tolist()


def test_pictures_and_other_grids_are_refused() -> None:
    flat = sitk.Image(4, 4, sitk.sitkUInt8)
    for call in (lambda: axial(flat, flat), lambda: axial_slices(flat), lambda: step_regions(flat)):
        with pytest.raises(ImageError) as found:
            call()
        assert found.value.code == "not-a-volume"
    moved = mask()
    moved.SetOrigin((0.0, 0.0, 0.0))
    with pytest.raises(ImageError, match="resample the mask") as found:
        axial(volume(), moved)
    assert found.value.code == "grid-mismatch"


def test_a_row_a_slice_with_the_measures_of_each_label() -> None:
    rows = table(axial(volume(), mask()), {"one": 1, "two": 2}, lambda inside, step: {"n": inside.sum() + 100 * step})
    assert rows["step"].tolist() == [0, 1, 2, 3]
    assert rows["position_mm"].tolist() == [7, 10, 13, 16]
    assert rows["one.n"].tolist() == rows["two.n"].tolist() == [2, 102, 202, 302]


def test_regions_by_number_and_where_labels_overlap() -> None:
    array = np.array([[0, 1], [2, 3]], np.uint8)
    plain = dict(regions(array, {"a": 1, "b": 2}))
    assert plain["a"].tolist() == [[False, True], [False, False]]
    both = dict(regions(array, Labels({"a": 1, "b": 2}, exclusive=False)))
    assert both["a"].tolist() == [[False, True], [False, True]]  # 3 is both
    assert both["b"].tolist() == [[False, False], [True, True]]
