import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.features import position
from medseg.features import size as shape
from medseg.features.respiration import air

LABELS = {"a": 1, "b": 2}


def box(spacing=(1.0, 2.0, 3.0), origin=(5.0, 6.0, 7.0)):
    """A box of 10×10×10 voxels of label 1 in a volume of 16 × 14 × 12 (x, y, z); label 2 is absent."""
    mask = np.zeros((12, 14, 16), np.uint8)
    mask[1:11, 2:12, 3:13] = 1
    images = [sitk.GetImageFromArray(array) for array in (np.zeros(mask.shape, np.float32), mask)]
    for image in images:
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
    return images


def test_a_box_has_its_volume_and_centroid():
    features = shape.frame_features(*box(), LABELS)
    assert features["a.volume_ml"] == pytest.approx(1000 * 6 / 1000)
    centroid = [features[f"a.centroid_{axis}_mm"] for axis in "xyz"]
    assert centroid == pytest.approx([5 + 7.5 * 1, 6 + 6.5 * 2, 7 + 5.5 * 3])


def test_an_absent_label_has_volume_0_and_no_centroid():
    features = shape.frame_features(*box(), LABELS)
    assert features["b.volume_ml"] == 0
    assert np.isnan([features[f"b.centroid_{axis}_mm"] for axis in "xyz"]).all()


def test_slices_run_from_inferior_to_superior_with_their_area():
    table = shape.step_features(*box(), LABELS)
    assert list(table["step"]) == list(range(12))
    assert list(table["position_mm"]) == pytest.approx([7 + 3 * k for k in range(12)])
    assert list(table["a.area_mm2"]) == [0, *[200.0] * 10, 0]
    assert (table["b.area_mm2"] == 0).all()


@pytest.mark.parametrize("orientation", ["RAI", "ASL", "SPR", "IRP"])
@pytest.mark.parametrize("module", [shape, air, position])
def test_the_order_of_axes_in_the_file_does_not_matter(module, orientation):
    image, mask = box()
    turned = [sitk.DICOMOrient(sitk_image, orientation) for sitk_image in (image, mask)]
    expected, features = module.frame_features(image, mask, LABELS), module.frame_features(*turned, LABELS)
    assert features == pytest.approx(expected, nan_ok=True)
    if module is not position:
        assert np.allclose(
            module.step_features(*turned, LABELS), module.step_features(image, mask, LABELS), equal_nan=True
        )


def test_a_flat_image_or_another_grid_is_refused():
    image, mask = box()
    with pytest.raises(ImageError, match="need a volume"):
        shape.frame_features(image[:, :, 0], mask[:, :, 0], LABELS)
    with pytest.raises(ImageError, match="resample the mask"):
        shape.frame_features(image, mask[1:, :, :], LABELS)


def test_every_measure_has_its_unit():
    for module in (shape, air, position):
        keys = {name.split(".")[1] for name in module.frame_features(*box(), LABELS)}
        if module is not position:
            keys |= {name.split(".")[1] for name in module.step_features(*box(), LABELS).columns if "." in name}
        assert keys == set(module.UNITS)
