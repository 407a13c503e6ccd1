"""A drawn fundus photograph: disc, fovea and field at known places."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

SIZE, RADIUS, DISC, FOVEA = 420, 200, (310.0, 205.0), (160.0, 220.0)  # a right eye: the disc is on the right
DIAMETER = 60.0


def eye(left: bool = False) -> sitk.Image:
    """RGB photograph: red ground, bright disc, dark fovea, vessels that leave the disc up and down."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    light = np.ones((SIZE, SIZE, 3)) * [180, 90, 45]
    light *= (1 - 0.3 * np.hypot(x - 210, y - 210) / RADIUS)[..., None]
    light *= (1 - 0.4 * np.exp(-(((x - FOVEA[0]) ** 2 + (y - FOVEA[1]) ** 2) / (2 * 18**2))))[..., None]
    disc = np.clip((DIAMETER / 2 - np.hypot(x - DISC[0], y - DISC[1])) / 3 + 0.5, 0, 1)[..., None]
    light = light * (1 - disc) + np.array([250, 210, 130]) * disc
    for side in (-1, 1):
        for bend in (0.0, 0.0035):
            line = DISC[0] - bend * (y - DISC[1]) ** 2 + 3 * side
            vessel = (np.abs(x - line) < 3) & ((y - DISC[1]) * side > 0)
            light[vessel] *= 0.6
    light[np.hypot(x - 210, y - 210) > RADIUS] = 0
    light = ndimage.gaussian_filter(light, (1, 1, 0)).clip(0, 255).astype(np.uint8)
    return sitk.GetImageFromArray(light[:, ::-1] if left else light, isVector=True)
