import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from medseg.errors import ImageError
from medseg.features.respiration.motion import UNITS, motion_features

SHIFT = 4 * np.sin(np.arange(24) * 2 * np.pi / 12)  # rows, down positive


def scene(shift, noise=0.0):
    """A bright textured body under a dark lung, moved by `shift` rows, beside a bright column that stands still."""
    random = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(random.standard_normal((64, 40)), 2) * 60
    still = np.where(np.arange(64)[:, None] > 30, 100 + texture, 5)
    frame = ndimage.shift(still, (shift, 0), order=1, mode="nearest")
    frame[:, :8] = 150 + texture[:, :8]
    return (frame + noise * np.random.default_rng(int(500 + shift * 50)).standard_normal(frame.shape)).astype(
        np.float32
    )


def images(arrays, spacing=1.0):
    frames = [sitk.GetImageFromArray(array) for array in arrays]
    for frame in frames:
        frame.SetSpacing([spacing] * frame.GetDimension())
    return frames


def test_a_known_shift_is_measured_beside_what_stands_still():
    table = motion_features(images([scene(s, noise=2) for s in SHIFT], spacing=1.5), names=list(UNITS))
    assert list(table.columns) == [f"motion.{key}" for key in UNITS]
    assert len(table) == len(SHIFT)
    assert table["motion.displacement_mm"].to_numpy() == pytest.approx((SHIFT - np.median(SHIFT)) * 1.5, abs=0.3)
    assert (table["motion.match_ncc"] > 0.9).all()


def test_modes_and_dark_part_rise_as_the_body_moves_down():
    table = motion_features(images([scene(s) for s in SHIFT]), names=["pc1", "dark_fraction"])
    for column in table:
        assert np.corrcoef(table[column], SHIFT)[0, 1] > 0.9


@pytest.mark.parametrize("orientation", ["LPS", "RAI", "SPL"])
def test_a_volume_moves_down_whatever_the_order_of_its_axes(orientation):
    volumes = [np.repeat(scene(s)[::-1, ::2, None], 6, axis=2) for s in SHIFT]  # first axis: from caudal to cranial
    turned = [sitk.DICOMOrient(image, orientation) for image in images(volumes)]
    moved = motion_features(turned)["motion.displacement_mm"].to_numpy()
    assert moved == pytest.approx(SHIFT - np.median(SHIFT), abs=0.3)


def test_nothing_moves_and_a_blank_frame_invents_nothing():
    still = motion_features(images([scene(0)] * 4))
    assert (still["motion.displacement_mm"] == 0).all()
    assert (still["motion.pc1"] == 0).all()
    blank = motion_features(images([*(scene(s) for s in SHIFT[:8]), np.zeros((64, 40), np.float32)]))
    assert list(blank["motion.displacement_mm"].isna()) == [False] * 8 + [True]


def test_unfit_frames_are_refused():
    with pytest.raises(ImageError, match="at least two"):
        motion_features(images([scene(0)]))
    with pytest.raises(ImageError, match="of one size"):
        motion_features(images([scene(0), scene(0)[:-1]]))
    with pytest.raises(ImageError, match="1 are not blank"):
        motion_features(images([scene(0), 0 * scene(0)]))
    with pytest.raises(ImageError, match="no feature 'pc9'"):
        motion_features(images([scene(0), scene(1)]), names=["pc9"])
