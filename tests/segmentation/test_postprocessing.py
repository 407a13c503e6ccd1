import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.segmentation.postprocessing import FillHoles, Inside, KeepLargest, LateralSplit, MinimumSize


def mask(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([0.5, 2.0, 3.0][: array.ndim])
    image.SetOrigin([7.0, -3.0, 1.0][: array.ndim])
    return image


def test_only_the_largest_piece_of_each_label_stays() -> None:
    array = np.zeros((4, 8, 8), np.uint8)
    array[:3, :3, :3], array[3, 7, 7] = 1, 1
    array[:2, 5:7, 5:7], array[0, 7, 0] = 2, 2
    result = KeepLargest()(mask(array))
    expected = array.copy()
    expected[3, 7, 7] = expected[0, 7, 0] = 0
    assert np.array_equal(sitk.GetArrayFromImage(result), expected)
    assert result.GetOrigin() == (7.0, -3.0, 1.0)
    only_one = sitk.GetArrayFromImage(KeepLargest([1])(mask(array)))
    assert only_one[0, 7, 0] == 2
    assert only_one[3, 7, 7] == 0


def test_a_piece_that_touches_by_a_corner_is_another_piece() -> None:
    array = np.zeros((4, 4), np.uint8)
    array[0, :3], array[1, 3] = 1, 1
    assert sitk.GetArrayFromImage(KeepLargest()(mask(array))).sum() == 3


def test_holes_are_filled_and_other_labels_kept() -> None:
    array = np.ones((5, 5, 5), np.uint8)
    array[2, 2, 2] = 0
    array[2, 2, 3] = 2
    array[0, 0, 0] = 0  # open to the outside: no hole
    result = sitk.GetArrayFromImage(FillHoles()(mask(array)))
    assert result[2, 2, 2] == 1
    assert result[2, 2, 3] == 2
    assert result[0, 0, 0] == 0


@pytest.mark.parametrize("order", ["LPS", "SLP", "ASR"])
def test_a_tunnel_is_a_hole_of_each_axial_slice_it_runs_through(order: str) -> None:
    array = np.zeros((6, 7, 7), np.uint8)  # (z, y, x)
    array[1:5, 1:6, 1:6] = 1
    array[:, 3, 3] = 0  # from top to bottom
    array[2, 3:, 4] = 0  # one slice open to the side
    tunnel = sitk.DICOMOrient(mask(array), order)
    assert np.array_equal(sitk.GetArrayFromImage(FillHoles()(tunnel)), sitk.GetArrayFromImage(tunnel))
    result = sitk.GetArrayFromImage(sitk.DICOMOrient(FillHoles(axial=True)(tunnel), "LPS"))
    expected = array.copy()
    expected[[1, 3, 4], 3, 3] = 1
    assert np.array_equal(result, expected)


def test_a_blank_mask_stays_blank_and_the_input_unchanged() -> None:
    blank = mask(np.zeros((3, 3, 3), np.uint8))
    assert not sitk.GetArrayFromImage(KeepLargest()(FillHoles()(blank))).any()
    array = np.zeros((1, 4, 4), np.uint8)
    array[0, 0, 0] = array[0, 2, 2] = array[0, 2, 3] = 1
    image = mask(array)
    KeepLargest()(image)
    assert np.array_equal(sitk.GetArrayFromImage(image), array)


def test_pieces_below_the_minimum_go_and_one_of_exactly_that_size_stays() -> None:
    array = np.zeros((6, 8), np.uint8)
    array[0, :3], array[2, :2], array[4, 0], array[4:, 6:] = 1, 1, 1, 2
    image = mask(array)  # a pixel is 0.5 x 2 mm: 3, 2, 1 and 4 mm²
    result = sitk.GetArrayFromImage(MinimumSize(mm2=2)(image))
    assert [result[0, 0], result[2, 0], result[4, 0], result[5, 7]] == [1, 1, 0, 2]
    result = sitk.GetArrayFromImage(MinimumSize(mm2=5)(image))
    assert not result.any()
    labels = sitk.GetArrayFromImage(MinimumSize(mm2=5, keep_largest=True)(image))
    assert np.array_equal(labels[[0, 2, 4]], [[1] * 3 + [0] * 5, [0] * 8, [0] * 6 + [2] * 2])
    assert np.array_equal(sitk.GetArrayFromImage(MinimumSize(mm2=5, labels=[1])(image)), array * (array == 2))
    assert np.array_equal(sitk.GetArrayFromImage(image), array)


def test_a_minimum_is_an_area_in_2d_and_a_volume_in_3d() -> None:
    array = np.zeros((3, 4, 4), np.uint8)
    array[0, 0, 0] = array[2, 2, 2] = array[2, 2, 3] = 1  # a voxel is 3 mm³
    result = sitk.GetArrayFromImage(MinimumSize(mm2=100, mm3=3.1)(mask(array)))
    assert np.argwhere(result).tolist() == [[2, 2, 2], [2, 2, 3]]
    with pytest.raises(ImageError, match="3D mask") as error:
        MinimumSize(mm2=1)(mask(array))
    assert error.value.code == "image-dimension"
    with pytest.raises(ValueError, match="mm2"):
        MinimumSize()
    assert not sitk.GetArrayFromImage(MinimumSize(mm3=1)(mask(np.zeros((3, 3, 3), np.uint8)))).any()


def test_a_label_stays_only_in_or_at_the_other() -> None:
    array = np.zeros((12, 12), np.uint8)
    array[1:8, 1:8] = 1
    array[3:5, 3:5] = 2  # encloses nothing, is enclosed
    array[6, 7:10] = 2  # reaches out
    array[8, 2] = 2  # touches from outside
    array[10, 10] = 2  # alone
    array[11, 0] = 3
    result = sitk.GetArrayFromImage(Inside(inner=2, outer=1)(mask(array)))
    expected = array.copy()
    expected[10, 10] = 0
    assert np.array_equal(result, expected)
    cut = sitk.GetArrayFromImage(Inside(inner=2, outer=1, cut=True)(mask(array)))
    expected[6, 7:10] = expected[8, 2] = 0
    assert np.array_equal(cut, expected)
    alone = sitk.GetArrayFromImage(Inside(inner=2, outer=9)(mask(array)))
    assert np.array_equal(alone, array * (array != 2))
    with pytest.raises(ValueError, match="differ"):
        Inside(1, 1)


LEFT, RIGHT, BOTH = 2, 1, 3


def pair(bridge: int = 0) -> np.ndarray:
    """Two ellipsoids (Z, Y, X) on the patient's sides in LPS, joined in front by a bridge so many voxels high."""
    z, y, x = np.mgrid[-10:11, -16:17, -30:31].astype(float)
    right, left = (((x - side * 14) / 11) ** 2 + (y / 14) ** 2 + (z / 9) ** 2 < 1 for side in (-1, 1))
    array = np.zeros(x.shape, np.uint8)
    array[(np.abs(x) < 14) & (np.abs(y + 4) < bridge / 2) & (np.abs(z) < 3)] = RIGHT
    array[right | ((array > 0) & (x < 0))], array[left | ((array > 0) & (x >= 0))] = RIGHT, LEFT
    return array


def in_lps(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([3.0, 3.0, 5.0])
    image.SetOrigin([1000.0, -50.0, 20.0])  # the scanner's zero is nowhere near
    return image


def agreement(result: sitk.Image, truth: np.ndarray) -> float:
    labels = sitk.GetArrayFromImage(sitk.DICOMOrient(result, "LPS"))
    assert np.array_equal(labels > 0, truth > 0)
    return float((labels == truth)[truth > 0].mean())


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "SLA"])
@pytest.mark.parametrize("bridge", [0, 1, 5])
def test_a_fused_pair_is_parted_on_the_patients_sides(orientation: str, bridge: int) -> None:
    truth = pair(bridge)
    split = LateralSplit(left=LEFT, right=RIGHT, merged=BOTH)
    image = sitk.DICOMOrient(in_lps(np.where(truth > 0, BOTH, 0).astype(np.uint8)), orientation)
    result = split(image)
    assert agreement(result, truth) > 0.99
    assert result.GetDirection() == image.GetDirection()
    swapped = np.choose(truth, [0, LEFT, RIGHT]).astype(np.uint8)
    assert agreement(split(sitk.DICOMOrient(in_lps(swapped), orientation)), truth) > 0.99


def test_islands_change_sides_and_the_networks_own_border_stays() -> None:
    truth = pair(bridge=7)
    truth[8:13, 8:15, 30:32] = RIGHT  # the border of the expert is not the middle
    array = truth.copy()
    right = np.argwhere(truth == RIGHT)
    for z, y, x in right[np.random.default_rng(0).integers(0, len(right), 3)]:
        array[max(0, z - 2) : z + 2, max(0, y - 2) : y + 2, max(0, x - 2) : min(x + 2, 24)] = LEFT
    array[truth == 0] = 0
    array[0, 0, 0] = 7  # another label
    result = LateralSplit(LEFT, RIGHT)(in_lps(array))
    labels = sitk.GetArrayFromImage(result)
    assert labels[0, 0, 0] == 7
    labels[0, 0, 0] = 0
    assert np.array_equal(labels, truth)


def test_a_pair_in_one_slice_and_a_single_organ() -> None:
    truth = pair()
    flat = sitk.GetImageFromArray(np.where(truth[10] > 0, BOTH, 0).astype(np.uint8))
    split = LateralSplit(LEFT, RIGHT, BOTH)
    assert np.array_equal(sitk.GetArrayFromImage(split(flat)), truth[10])
    single = np.where(truth == LEFT, BOTH, 0).astype(np.uint8)
    assert np.array_equal(sitk.GetArrayFromImage(split(in_lps(single))), np.where(single, LEFT, 0))
    known = np.where(truth == LEFT, RIGHT, 0).astype(np.uint8)  # its label counts, not its place
    assert np.array_equal(sitk.GetArrayFromImage(split(in_lps(known))), known)
    blank = in_lps(np.zeros_like(truth))
    assert not sitk.GetArrayFromImage(split(blank)).any()
    with pytest.raises(ValueError, match="different"):
        LateralSplit(1, 1)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (2, 8, 8)])
def test_keep_largest_of_a_single_slice_keeps_large_parts(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.uint8)
    array[..., :3, :4] = 1  # twelve pixels
    array[..., 6, :6] = 1  # a half
    array[..., 7, 7] = 1  # a twelfth
    kept = sitk.GetArrayFromImage(KeepLargest(slice_share=0.3)(mask(array)))
    expected = array.copy()
    expected[..., 7, 7] = 0
    if shape[0] == 2:  # a volume: the rule of single slices does not apply
        expected[..., 6, :] = 0
    assert np.array_equal(kept, expected)
    with pytest.raises(ValueError, match="slice_share"):
        KeepLargest(slice_share=0.0)
