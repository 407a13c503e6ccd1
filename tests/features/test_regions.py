import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.features.regions import crop_regions
from medseg.io.labels import Labels


def images(shape=(30, 40), spacing=None):
    """A label of one pixel in the middle of a ramp."""
    mask = np.zeros(shape, np.uint8)
    mask[tuple(n // 2 for n in shape)] = 1
    made = sitk.GetImageFromArray(np.arange(mask.size, dtype=np.float32).reshape(shape)), sitk.GetImageFromArray(mask)
    for image in made:
        image.SetSpacing(spacing or (1,) * len(shape))
    return made


def test_a_region_is_the_labels_box_and_an_absent_label_has_an_empty_one():
    image, mask = images()
    cropped = dict(crop_regions(image, mask, {"a": 1, "b": 2}))
    assert cropped["a"].inside.shape == (1, 1)
    assert cropped["a"].grey.tolist() == [[15 * 40 + 20]]
    assert cropped["b"].inside.size == cropped["b"].ring.size == 0


@pytest.mark.parametrize("spacing", [(1, 1), (2, 2), (1, 2), (2, 1, 3)])
def test_the_ring_is_as_wide_as_stated_in_every_direction(spacing):
    image, mask = images((31,) * len(spacing), spacing)
    (_, region), *_ = crop_regions(image, mask, {"a": 1}, ring=8.0)
    place = np.argwhere(region.inside)[0]
    steps = (np.argwhere(np.ones_like(region.inside)) - place) * spacing[::-1]
    distance = np.linalg.norm(steps, axis=1).reshape(region.inside.shape)
    assert (region.ring == ((distance > 0) & (distance <= region.width + 1e-6))).all()
    assert region.ring.any()


def test_the_ring_ends_at_the_images_edge():
    image, mask = images((3, 3))
    (_, region), *_ = crop_regions(image, mask, {"a": 1}, ring=9.0)
    assert region.ring.sum() == 8


def test_labels_may_overlap():
    mask = sitk.GetImageFromArray(np.array([[1, 3, 2, 0]], np.uint8))
    cropped = dict(crop_regions(mask, mask, Labels({"a": 1, "b": 2}, exclusive=False)))
    assert [cropped[name].values.tolist() for name in "ab"] == [[[1, 3]], [[3, 2]]]


def test_grey_of_colour_is_luma_and_alpha_is_left_out():
    rgba = sitk.GetImageFromArray(np.full((1, 1, 4), (255, 0, 100, 7), np.uint8), isVector=True)
    (_, region), *_ = crop_regions(rgba, sitk.GetImageFromArray(np.ones((1, 1), np.uint8)), {"a": 1})
    assert region.grey.item() == pytest.approx(0.299 * 255 + 0.114 * 100)


def test_what_does_not_fit_is_refused():
    image, mask = images()
    with pytest.raises(ImageError, match="resample the mask"):
        list(crop_regions(image, mask[1:, :], {"a": 1}))
    with pytest.raises(ImageError, match="one channel at a time"):
        list(crop_regions(sitk.Compose(*[image] * 5), mask, {"a": 1}))
    with pytest.raises(ImageError, match="frames"):
        list(crop_regions(sitk.Image([2] * 4, sitk.sitkUInt8), mask, {"a": 1}))
