"""What every measure of a lesion sees, on drawn pictures."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.features.dermoscopy.lesion import LEAST, SIDE, lesions, local_contrast
from medseg.io.labels import Labels
from tests.features.dermoscopy.drawn import DISC, RADIUS, SIZE, SKIN, R, X, Y, colours, mask_of, picture, view


def test_a_disc_is_seen_as_it_is_drawn():
    lesion = view(colours(DISC))
    assert lesion.inside.tolist() == DISC.tolist()
    assert lesion.centre == pytest.approx(((SIZE - 1) / 2,) * 2)
    assert lesion.radius == pytest.approx(RADIUS, rel=0.005)
    assert lesion.depth == pytest.approx(RADIUS - R, abs=2)  # 2 % of the distance
    assert lesion.seen.all()
    inner, outer = lesion.lab[120, 120], lesion.lab[120, 10]
    assert lesion.around == pytest.approx(outer, abs=0.1)
    assert inner[0] < outer[0]


def test_the_axis_is_the_long_one_and_points_to_the_darker_end():
    long = np.hypot(X / 90, Y / 40) < 1
    for side, angle in ((X > 30, 0), (X < -30, np.pi)):
        lesion = view(colours(long, (side, (41, 31, 30))), long)
        assert np.cos(lesion.axis - angle) > 0.999
    tilted = np.hypot((X + Y) / np.sqrt(2) / 90, (X - Y) / np.sqrt(2) / 40) < 1
    assert abs(np.cos(view(colours(tilted), tilted).axis - np.pi / 4)) > 0.999


def test_hair_is_left_out_and_filled_from_beside_it():
    hairs = np.zeros_like(DISC)
    for offset in (-50, -15, 20, 45):
        hairs |= np.abs(Y - 0.15 * X - offset) < 1.2
    values = colours(DISC)
    values[hairs] = (25, 20, 18)
    lesion, plain = view(values), view(colours(DISC))
    assert (~lesion.seen)[hairs].mean() > 0.8
    assert (~lesion.seen)[~hairs].mean() < 0.15
    dark = plain.lab[..., 0] - lesion.lab[..., 0]
    assert dark[hairs & DISC].mean() < 4  # of 25 that black hair is darker


def test_dark_corners_are_not_seen():
    values = colours(DISC)
    values[R > 115] = 2
    lesion = view(values)
    assert not lesion.seen[R > 118].any()
    assert lesion.seen[R < 105].all()
    assert lesion.around == pytest.approx(view(colours(DISC)).around, abs=0.5)


def test_large_pictures_are_brought_to_one_size_and_pixels_to_squares():
    large = picture(np.kron(colours(DISC), np.ones((5, 5, 1))))
    mask = mask_of(np.kron(DISC, np.ones((5, 5))) > 0)
    ((_, lesion),) = lesions(large, mask, {"m": 1})
    assert lesion is not None
    assert max(lesion.inside.shape) == SIDE
    assert lesion.radius == pytest.approx(RADIUS * SIDE / SIZE, rel=0.01)
    wide = picture(colours(DISC)[:, ::2])
    mask = mask_of(DISC[:, ::2])
    for sitk_image in (wide, mask):
        sitk_image.SetSpacing((2.0, 1.0))
    ((_, lesion),) = lesions(wide, mask, {"m": 1})
    assert lesion is not None
    assert lesion.inside.shape == (SIZE, SIZE)
    rows, columns = (np.ptp(np.flatnonzero(lesion.inside.any(axis=axis))) for axis in (1, 0))
    assert rows == pytest.approx(columns, abs=2)


def test_labels_that_overlap_are_seen_one_by_one_and_small_ones_not():
    coded = Labels({"whole": 1, "part": 2, "speck": 3, "none": 4}, exclusive=False)
    speck = (np.abs(X) < 3) & (np.abs(Y) < 3)
    assert speck.sum() < LEAST
    layers = {"whole": DISC, "part": R < 30, "speck": speck, "none": np.zeros_like(DISC)}
    views = dict(lesions(picture(colours(DISC)), sitk.GetImageFromArray(coded.join(layers)), coded))
    assert list(views) == list(layers)
    assert views["whole"].inside.sum() == DISC.sum()
    assert views["part"].inside.sum() == (R < 30).sum()
    assert views["speck"] is None
    assert views["none"] is None


def test_a_lesion_that_fills_the_picture_has_no_skin_around():
    lesion = view(colours(np.ones_like(DISC)), np.ones_like(DISC))
    assert np.isnan(lesion.around).all()
    assert (lesion.depth > 0).all()


def test_a_grey_picture_has_no_colour():
    grey = sitk.GetImageFromArray(np.where(DISC, 90, 180).astype(np.uint8))
    ((_, lesion),) = lesions(grey, mask_of(DISC), {"m": 1})
    assert lesion is not None
    assert np.abs(lesion.lab[..., 1:]).max() < 0.5


@pytest.mark.parametrize("code", ["not-a-picture", "grid-mismatch"])
def test_what_does_not_fit_is_refused(code):
    image = picture(np.ones((20, 20, 3)) * SKIN)
    mask = sitk.Image(20, 20, 4, sitk.sitkUInt8) if code == "not-a-picture" else sitk.Image(21, 20, sitk.sitkUInt8)
    with pytest.raises(ImageError) as found:
        list(lesions(image, mask, {"m": 1}))
    assert found.value.code == code


def test_local_contrast_is_that_of_what_counts_alone():
    """A chessboard of ±5 has a standard deviation of 5; the step to what does not count is none."""
    board = np.where((np.indices((60, 60)).sum(axis=0) % 2) == 0, 5.0, -5.0).astype(np.float32)
    inside = np.zeros((60, 60), bool)
    inside[10:50, 10:50] = True
    contrast = local_contrast(np.where(inside, 50 + board, 200).astype(np.float32), inside, 3.0, 6.0)
    assert contrast[inside] == pytest.approx(np.full(inside.sum(), 5.0), rel=0.1)
    flat = local_contrast(np.where(inside, 50, 200).astype(np.float32), inside, 3.0, 6.0)
    assert flat[inside].max() < 0.01
