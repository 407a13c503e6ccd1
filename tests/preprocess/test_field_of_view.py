import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.preprocess.field_of_view import Body, CropToFieldOfView, Dermoscope, FitFieldOfView, Fundus, Head, Sector

Y, X = np.indices((300, 400)).astype(np.float32)


def colour(grey: np.ndarray, tint: tuple[float, float, float] = (1.0, 0.7, 0.5)) -> sitk.Image:
    noise = np.random.default_rng(0).normal(0, 0.01, grey.shape)
    return sitk.GetImageFromArray(((grey + noise)[..., None] * np.array(tint)).clip(0, 1).astype(np.float32), True)


def overlap(result: sitk.Image, truth: np.ndarray) -> float:
    mask = sitk.GetArrayFromImage(result) > 0
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize("surround", [0.0, 0.05])
def test_fundus_clipped_and_unevenly_lit_is_found(surround: float) -> None:
    disc = np.hypot(Y - 150, X - 200) < 170  # wider than the image is tall
    light = 0.35 + 0.4 * X / 400
    image = colour(np.where(disc, light, surround))
    assert overlap(Fundus()(image), disc) > 0.97


def test_fundus_includes_a_dark_haemorrhage() -> None:
    disc = np.hypot(Y - 150, X - 200) < 140
    spot = np.hypot(Y - 150, X - 240) < 25
    assert overlap(Fundus()(colour(np.where(disc & ~spot, 0.5, 0.02))), disc) > 0.97


def test_dermoscope_excludes_dark_corners_but_not_a_lesion() -> None:
    disc = np.hypot(Y - 150, X - 200) < 190
    lesion = np.hypot(Y - 150, X - 330) < 60  # reaches beyond the circle
    image = colour(np.where(disc, np.where(lesion, 0.2, 0.8), 0.05))
    assert overlap(Dermoscope()(image), disc) > 0.95
    mask = sitk.GetArrayFromImage(Dermoscope()(image)) > 0
    assert (lesion & disc & ~mask).sum() < 0.05 * (lesion & disc).sum()


def test_dermoscope_without_corners_is_the_whole_image() -> None:
    lesion = np.hypot(Y - 20, X - 200) < 90  # dark, and cut by the border
    assert sitk.GetArrayFromImage(Dermoscope()(colour(np.where(lesion, 0.15, 0.8)))).all()


def test_sector_excludes_margins_and_text() -> None:
    sector = (np.hypot(Y + 60, X - 200) < 330) & (np.abs(X - 200) < 0.5 * (Y + 80)) & (Y > 5)
    speckle = np.random.default_rng(1).rayleigh(0.25, Y.shape)
    image = np.where(sector, speckle, 0.0)
    image[20:30, 5:40] = 0.9  # text
    mask = Sector()(sitk.GetImageFromArray(image.clip(0, 1).astype(np.float32)))
    assert overlap(mask, sector) > 0.88  # its convex hull
    assert not sitk.GetArrayFromImage(mask)[20:30, 5:40].any()


def head() -> tuple[np.ndarray, np.ndarray]:
    _, y, x = np.indices((12, 120, 100)).astype(np.float32) / 2
    inside = np.hypot((y - 30) / 24, (x - 25) / 18) < 1
    noise = np.abs(np.random.default_rng(2).normal(0, 3, inside.shape))
    hollow = np.hypot(y - 30, x - 25) < 6
    return np.where(inside & ~hollow, 100.0, noise).astype(np.float32), inside


def test_head_includes_ventricles() -> None:
    array, inside = head()
    assert overlap(Head()(sitk.GetImageFromArray(array)), inside) > 0.9


def test_head_of_a_stripped_brain_excludes_the_constant_background() -> None:
    array, inside = head()
    array = np.where(inside, array - 60, -7.0).astype(np.float32)
    assert overlap(Head()(sitk.GetImageFromArray(array)), inside) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("windowed", [False, True])
def test_body_includes_lungs_but_not_the_table(windowed: bool) -> None:
    _, y, x = np.indices((6, 80, 100)).astype(np.float32)
    inside = np.hypot((y - 35) / 28, (x - 50) / 42) < 1
    lungs = (np.hypot((y - 35) / 18, (x - 30) / 12) < 1) | (np.hypot((y - 35) / 18, (x - 70) / 12) < 1)
    hu = np.where(lungs, -850.0, np.where(inside, 40.0, -1000.0))
    hu[:, 70:72, 20:80] = 100.0  # table
    image = sitk.GetImageFromArray((((hu + 1000) / 1400).clip(0, 1) if windowed else hu).astype(np.float32))
    assert overlap(Body()(image), inside) > 0.97


def test_crop_to_field_of_view_keeps_physical_coordinates() -> None:
    array, _ = head()
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetOrigin((-5.0, 7.0, 9.0))
    cropped = CropToFieldOfView(Head())(image)
    assert cropped.GetSize()[0] < image.GetSize()[0]
    assert cropped.GetSize()[2] == 12
    point = cropped.TransformIndexToPhysicalPoint((3, 4, 5))
    assert image.TransformPhysicalPointToIndex(point) is not None
    assert image[image.TransformPhysicalPointToIndex(point)] == cropped[3, 4, 5]


@pytest.mark.parametrize("shape", [(300, 400), (600, 800)])
def test_fit_field_of_view_gives_one_width_for_every_camera(shape: tuple[int, int]) -> None:
    y, x = np.indices(shape).astype(np.float32) * 300 / shape[0]
    disc = np.hypot(y - 150, x - 200) < 120
    fitted = FitFieldOfView(Fundus(), 100)(colour(np.where(disc, 0.5, 0.0)))
    assert fitted.GetSize()[0] == pytest.approx(100, abs=1)
    assert fitted.GetSize()[1] == pytest.approx(100, abs=2)


def test_field_box_black_image_raises() -> None:
    with pytest.raises(ImageError, match="field of view"):
        FitFieldOfView(lambda image: sitk.Image(image.GetSize(), sitk.sitkUInt8), 100)(
            sitk.Image([40, 40], sitk.sitkFloat32)
        )


def test_head_of_a_slab_includes_outer_fluid() -> None:
    _, y, x = np.indices((7, 120, 100)).astype(np.float32)
    r = np.hypot((y - 60) / 50, (x - 50) / 40)
    slab = np.where(r < 0.8, 100.0, np.where(r < 0.9, 12.0, np.where(r < 1.0, 70.0, 2.0))).astype(np.float32)
    slab += np.random.default_rng(0).normal(0, 1, slab.shape).astype(np.float32)
    slab[:2] = slab[-2:] = 0
    mask = sitk.GetArrayFromImage(Head()(sitk.GetImageFromArray(slab))) > 0
    assert (mask[2:5] & (r < 1)[2:5]).sum() > 0.97 * (r < 1)[2:5].sum()
    assert not mask[:2].any()


def test_dermoscope_excludes_stickers_but_not_a_blue_lesion() -> None:
    values = np.full((*Y.shape, 3), (0.85, 0.62, 0.5), np.float32)
    sticker = np.hypot(Y - 60, X - 400) < 70
    lesion = np.hypot(Y - 160, X - 180) < 40
    values[sticker] = (0.3, 0.5, 0.8)
    values[lesion] = (0.45, 0.43, 0.55)
    mask = sitk.GetArrayFromImage(Dermoscope()(sitk.GetImageFromArray(values, isVector=True))) > 0
    assert not (mask & sticker).any()
    assert mask[lesion].all()


@pytest.mark.parametrize("size", [(64, 80), (300, 400), (1400, 2100)])
@pytest.mark.parametrize("surround", [0.0, 0.12, 0.95])
@pytest.mark.parametrize("radius", [0.42, 0.6])
def test_fundus_is_found_at_any_size(size: tuple[int, int], surround: float, radius: float) -> None:
    y, x = np.indices(size).astype(np.float32)
    away = np.hypot(y - size[0] * 0.5, x - size[1] * 0.48) / size[0]
    light = 0.75 - 0.5 * away  # darker to the rim
    image = colour(np.where(away < radius, light, surround), (1.0, 0.6, 0.3) if surround < 0.9 else (1.0, 1.0, 1.0))
    image.SetSpacing((0.3, 0.4))
    mask = Fundus()(image)
    assert overlap(mask, away < radius) > 0.98
    assert mask.GetSpacing() == image.GetSpacing()


def test_fundus_without_surround_is_the_whole_image() -> None:
    light = 0.4 + 0.2 * np.sin(X / 30) * np.sin(Y / 40)
    assert sitk.GetArrayFromImage(Fundus()(colour(light))).all()
    assert sitk.GetArrayFromImage(Fundus()(sitk.Image([60, 50], sitk.sitkUInt8))).all()
    assert sitk.GetArrayFromImage(Sector()(sitk.Image([60, 50], sitk.sitkUInt8) + 90)).all()


@pytest.mark.parametrize("axes", [(140, 140), (140, 190), (190, 190)])
def test_dermoscope_in_a_squashed_image_is_found(axes: tuple[int, int]) -> None:
    disc = np.hypot((Y - 150) / axes[0], (X - 205) / axes[1]) < 1
    image = colour(np.where(disc, 0.8, 0.04))
    assert overlap(Dermoscope()(image), disc) > 0.98


def test_dermoscope_dense_hair_is_not_a_ring() -> None:
    hair = ((X + Y) % 40 < 5) | ((X - Y) % 55 < 5)
    mask = Dermoscope()(colour(np.where(hair, 0.1, 0.8)))
    assert sitk.GetArrayFromImage(mask).mean() > 0.99


@pytest.mark.parametrize("cast", [(1.0, 0.9, 0.3), (0.6, 0.7, 1.0)])
def test_dermoscope_colour_cast_is_not_a_sticker(cast: tuple[float, float, float]) -> None:
    lesion = np.hypot(Y - 150, X - 380) < 90
    values = np.where(lesion[..., None], (0.45, 0.25, 0.12), (0.85, 0.68, 0.6)) * cast
    image = sitk.GetImageFromArray(values.astype(np.float32), isVector=True)
    assert sitk.GetArrayFromImage(Dermoscope()(image)).all()


def test_sector_includes_a_cyst_that_splits_the_echoes() -> None:
    speckle = np.random.default_rng(1).rayleigh(0.25, Y.shape)
    speckle[120:190] = 0
    mask = Sector()(sitk.GetImageFromArray((speckle * 255).clip(0, 255).astype(np.uint8)))
    assert sitk.GetArrayFromImage(mask).all()


def test_sector_excludes_margins_of_a_linear_array() -> None:
    echo = (np.abs(X - 180) < 120) & (Y > 20) & (Y < 280)
    values = np.where(echo, np.random.default_rng(1).rayleigh(0.2, Y.shape), 0.004)
    values[40:200, 370:374] = np.linspace(1, 0, 160)[:, None]  # a grey scale
    assert overlap(Sector()(sitk.GetImageFromArray(values.clip(0, 1).astype(np.float32))), echo) > 0.98


def test_sector_of_a_volume_raises() -> None:
    with pytest.raises(ImageError, match="needs a 2D image"):
        Sector()(sitk.Image([8, 8, 8], sitk.sitkFloat32))
    with pytest.raises(ImageError, match="one value per pixel"):
        Body()(sitk.Image([8, 8], sitk.sitkVectorUInt8, 3))


def test_crop_to_field_of_view_margin_stops_at_the_border() -> None:
    disc = np.hypot(Y - 100, X - 200) <= 50
    image = colour(np.where(disc, 0.6, 0.0))
    mask = sitk.GetImageFromArray(disc.astype(np.uint8))
    assert CropToFieldOfView(lambda _: mask)(image).GetSize() == (101, 101)
    assert CropToFieldOfView(lambda _: mask, 0.2)(image).GetSize() == (141, 141)
    wide = CropToFieldOfView(lambda _: mask, 0.6)(image)
    assert wide.GetOrigin() == (89.0, 0.0)
    assert wide.GetSize() == (223, 212)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.2, 0.4)])
def test_fit_field_of_view_gives_square_pixels_and_keeps_positions(spacing: tuple[float, float]) -> None:
    image = sitk.PhysicalPointSource(sitk.sitkVectorFloat32, (400, 300), (5.0, -3.0), spacing)
    ramp = sitk.VectorIndexSelectionCast(image, 0)
    mask = sitk.Image((400, 300), sitk.sitkUInt8)
    mask[100:330, 50:250] = 1
    mask.CopyInformation(ramp)
    fitted = FitFieldOfView(lambda _: mask, 77)(ramp)
    assert max(fitted.GetSize()) == 77
    assert fitted.GetSpacing()[0] == pytest.approx(fitted.GetSpacing()[1], rel=0.02)
    inner = (40, fitted.GetSize()[1] // 2)
    assert fitted[inner] == pytest.approx(fitted.TransformIndexToPhysicalPoint(inner)[0], abs=1e-3)


@pytest.mark.parametrize("finder", [Fundus, Dermoscope])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_field_finders_invalid_fractions_raise(finder: type[Fundus] | type[Dermoscope], share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        finder(share)
