"""The healthy fundus: left and right eyes, disc and fovea where an eye has them, vessels that spare the fovea."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from medseg.datasets.phantoms import retina
from medseg.datasets.phantoms.photo_canvas import pixel_centres
from medseg.datasets.phantoms.retina_anatomy import (
    ABSORBED,
    AVASCULAR,
    DISC,
    Eye,
    paint_ground,
    paint_vessels,
    sample_eye,
)
from medseg.features.fundus.landmarks import find_landmarks

EYE = Eye(1, (0.31, -0.03), (-0.04, 0.01))


def test_sample_eye_disc_is_nasal_of_the_fovea() -> None:
    eyes = [sample_eye(np.random.default_rng(seed)) for seed in range(40)]
    assert {eye.side for eye in eyes} == {-1, 1}
    for eye in eyes:
        assert eye.side * (eye.disc[0] - eye.fovea[0]) > 4.5 * DISC
        assert abs(eye.disc[0]) + 0.8 * DISC < retina.FIELD
        assert eye.disc[1] < eye.fovea[1]


def test_paint_ground_disc_is_bright_and_macula_dark() -> None:
    x, y = pixel_centres(480, 360)
    image, disc = paint_ground(np.random.default_rng(0), (x, y), EYE)
    assert 0.8 < (disc > 0.5).sum() / 480**2 / (np.pi * DISC**2) < 1.1
    ring = np.hypot(x - EYE.fovea[0], y - EYE.fovea[1])
    ground = image[(ring > 0.2) & (ring < 0.25)].mean(axis=0)
    macula = image[(ring > 0.008) & (ring < 0.025)].mean(axis=0)
    assert (macula < 0.9 * ground).all()
    assert (image[disc > 0.9].mean(axis=0) > 1.15 * ground).all()


def test_paint_vessels_start_at_disc_and_avoid_fovea() -> None:
    x, y = pixel_centres(480, 360)
    ground = np.ones((360, 480, 3), np.float32)
    green = paint_vessels(np.random.default_rng(1), ground, EYE)[..., 1]
    vessels = green < 0.75
    away = np.hypot(x - EYE.fovea[0], y - EYE.fovea[1])
    assert not vessels[away < 0.8 * AVASCULAR].any()
    assert 0.03 < vessels.mean() < 0.25
    numbered, _ = ndimage.label(vessels, np.ones((3, 3)))
    sizes = np.bincount(numbered.ravel())[1:]
    assert np.sort(sizes)[-6:].sum() > 0.8 * sizes.sum()  # a few trees, not many components
    for above in (y < EYE.fovea[1] - 0.1, y > EYE.fovea[1] + 0.1):
        assert vessels[above & (x < 0)].any()  # the bows reach the temporal side


def test_paint_vessels_veins_are_darker_than_arteries() -> None:
    assert (ABSORBED["vein"] > ABSORBED["artery"]).all()


def test_find_landmarks_finds_painted_disc() -> None:
    n_found = 0
    for seed in range(6):
        image, masks = retina.retina_phantom(np.random.default_rng([8, seed]), 2, "small")
        landmarks = find_landmarks(sitk.GetImageFromArray(image, isVector=True))
        assert landmarks is not None
        y, x = ndimage.center_of_mass(masks["optic_disc"])
        n_found += bool(np.hypot(landmarks.disc[0] - x, landmarks.disc[1] - y) < 0.3 * landmarks.diameter)
    assert n_found >= 5
