import numpy as np
import pytest
import SimpleITK as sitk

from medseg.features.respiration.diaphragm import frame_features

SPACING = (1.0, 1.0, 2.5)


def lung(lift=0.0, spacing=SPACING):
    """A block on a paraboloid dome whose top is at 40 mm + lift; z = 0 is the centre of the lowest slice."""
    z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip((90, 40, 40), spacing[::-1], strict=True)), indexing="ij")
    floor = 40 + lift - ((y - 20) ** 2 + (x - 20) ** 2) / 30
    mask = sitk.GetImageFromArray(((z >= floor) & (z <= 210)).astype(np.uint8))
    mask.SetSpacing(spacing)
    return mask


def dome(mask):
    image = sitk.Cast(mask, sitk.sitkFloat32)
    return frame_features(image, mask, {"a": 1})["a.dome_mm"]


def test_a_flat_floor_is_the_lower_face_of_the_lowest_slice():
    mask = sitk.Image((6, 6, 20), sitk.sitkUInt8)
    mask[1:5, 1:5, 5:15] = 1
    mask.SetSpacing((1, 1, 3))
    mask.SetOrigin((0, 0, -100))
    features = frame_features(mask, mask, {"a": 1})
    assert features["a.dome_mm"] == pytest.approx(-100 + 4.5 * 3)
    assert features["a.apex_to_dome_mm"] == pytest.approx(30)


def test_the_dome_is_found_near_its_top():
    assert 36 < dome(lung()) < 40


def test_motion_smaller_than_a_slice_is_seen():
    heights = [dome(lung(lift)) for lift in range(6)]
    assert np.diff(heights) == pytest.approx(1, abs=0.7)
    assert heights[-1] - heights[0] == pytest.approx(5, abs=0.5)


def test_short_columns_at_the_apex_and_stray_voxels_do_not_count():
    mask = lung()
    changed = sitk.Image(mask)
    changed[0, 0, 89] = 1
    changed[30:34, 30:34, 0:60] = 0  # short columns hang from the top
    assert dome(changed) == pytest.approx(dome(mask), abs=1)


def test_an_absent_label_has_no_dome():
    mask = lung()
    features = frame_features(mask, mask, {"b": 2})
    assert np.isnan(list(features.values())).all()
