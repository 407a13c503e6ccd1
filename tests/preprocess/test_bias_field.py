"""Two tissues times a known field: N4 must estimate it, in heads, slabs and slices."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.preprocess.bias_field import N4

WHITE, GREY = 800.0, 500.0


def tissues(size: tuple[int, int, int], spacing: tuple[float, float, float]) -> tuple[sitk.Image, np.ndarray]:
    """Label map (Z, Y, X) of a ball of folded tissues (1 grey, 2 white) and the field it is seen through."""
    grid = sitk.PhysicalPointSource(sitk.sitkVectorFloat32, size, [0.0] * 3, spacing)
    points = sitk.GetArrayFromImage(grid)
    x, y, z = np.moveaxis(points - points.mean(axis=(0, 1, 2)), -1, 0)
    radius = np.hypot(np.hypot(x, y), z)
    white = np.sin(x / 7) + np.sin(y / 6 + x / 20) + np.cos(z / 8) > 0.4
    labels = sitk.GetImageFromArray(((radius < 75) * (1 + white)).astype(np.uint8))
    labels.CopyInformation(grid)
    field = np.exp(0.35 * np.sin(x / 60 + 0.5) * np.cos(y / 70) + 0.2 * z / 80)
    return labels, field


def scan(labels: sitk.Image, field: np.ndarray) -> sitk.Image:
    clean = np.array([0, GREY, WHITE])[sitk.GetArrayFromImage(labels)]
    noise = np.random.default_rng(0).normal(0, 10, clean.shape)
    image = sitk.GetImageFromArray(np.maximum(clean * field + noise, 0).astype(np.float32))
    image.CopyInformation(labels)
    return image


def variation(image: sitk.Image, labels: sitk.Image, label: int) -> float:
    values = sitk.GetArrayFromImage(image)[sitk.GetArrayFromImage(labels) == label]
    return float(values.std() / values.mean())


@pytest.mark.parametrize(
    ("size", "spacing"),
    [((80, 80, 40), (2, 2, 4)), ((80, 80, 18), (2, 2, 1)), ((18, 80, 80), (1, 2, 2)), ((80, 80, 1), (2, 2, 5))],
    ids=["head", "axial slab", "sagittal slab", "one slice"],
)
def test_n4_removes_a_known_field(size: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    labels, field = tissues(size, spacing)
    image = scan(labels, field)
    result = N4(lambda _: labels > 0)(image)
    for label in (1, 2):
        assert variation(result, labels, label) <= 0.4 * variation(image, labels, label)
    assert result.GetPixelID() == sitk.sitkFloat32
    assert result.GetSpacing() == image.GetSpacing()
    inside = sitk.GetArrayFromImage(labels) > 0
    estimated = sitk.GetArrayFromImage(image)[inside] / sitk.GetArrayFromImage(result)[inside]
    assert np.log(estimated).mean() == pytest.approx(0, abs=0.02)  # the level of brightness stays
    assert np.corrcoef(estimated, field[inside])[0, 1] > 0.97


def test_n4_rotated_axes_give_the_same_correction() -> None:
    labels, field = tissues((80, 80, 40), (2, 2, 4))
    image = scan(labels, field)
    turned = N4(lambda _: sitk.DICOMOrient(labels, "PSL") > 0)(sitk.DICOMOrient(image, "PSL"))
    assert variation(sitk.DICOMOrient(turned, "LPS"), labels, 2) <= 0.4 * variation(image, labels, 2)


def test_n4_without_field_uses_bright_pixels_also_in_2d() -> None:
    labels, field = tissues((80, 80, 1), (2, 2, 5))
    image = scan(labels, field)[:, :, 0]
    result = N4()(image)
    assert result.GetDimension() == 2
    assert variation(result, labels[:, :, 0], 2) <= 0.4 * variation(image, labels[:, :, 0], 2)


def test_n4_uniform_and_blank_images_are_unchanged() -> None:
    labels, field = tissues((40, 40, 20), (4, 4, 8))
    image = scan(labels, np.ones_like(field))
    result = sitk.GetArrayFromImage(N4(lambda _: labels > 0, iterations=10)(image))
    inside = sitk.GetArrayFromImage(labels) > 0
    assert np.abs(result / np.maximum(sitk.GetArrayFromImage(image), 1) - 1)[inside].max() < 0.05
    blank = sitk.Image([8, 8, 8], sitk.sitkInt16)
    assert not sitk.GetArrayFromImage(N4()(blank)).any()


def test_n4_invalid_images_raise() -> None:
    labels, field = tissues((40, 40, 20), (4, 4, 8))
    with pytest.raises(ImageError, match=r"below 0.*~preprocess.bias") as error:
        N4(lambda _: labels > 0)(scan(labels, field) - 600)
    assert error.value.code == "image-negative"
    with pytest.raises(ImageError, match="one channel"):
        N4()(sitk.Image([8, 8], sitk.sitkVectorFloat32, 3))
    with pytest.raises(ValueError, match="at least 1"):
        N4(shrink=0)


def test_n4_pads_a_thin_slab_to_half_of_its_longest_side(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[list[float]] = []

    class Noted:
        def SetMaximumNumberOfIterations(self, _iterations: list[int]) -> None: ...  # noqa: N802

        def Execute(self, image: sitk.Image, mask: sitk.Image) -> None:  # noqa: N802
            sizes.append([size * side for size, side in zip(image.GetSize(), image.GetSpacing(), strict=True)])
            assert mask.GetSize() == image.GetSize()
            raise RuntimeError("stopped here")

    monkeypatch.setattr(sitk, "N4BiasFieldCorrectionImageFilter", Noted)
    labels, field = tissues((64, 64, 6), (2.0, 2.0, 3.0))  # 128 mm × 128 mm × 18 mm
    with pytest.raises(ImageError, match="stopped here"):
        N4()(scan(labels, field))
    assert sizes[0][0] == pytest.approx(128, abs=8)
    assert 60 <= sizes[0][2] <= 76
