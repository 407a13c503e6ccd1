"""Images brought to a size in pixels, whatever their spacing. Shrinking averages, so that nothing aliases."""

from __future__ import annotations

from collections.abc import Sequence

import SimpleITK as sitk

from medseg.preprocess.geometry import Resample


class Resize:
    """Resample the plane to `size` pixels (x, y), whatever the aspect; slices of a volume stay as many."""

    def __init__(self, size: Sequence[int]) -> None:
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"size {list(size)}: must be two whole numbers above 0, pixels x y")
        self.size = (int(size[0]), int(size[1]))

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image → the same extent on `size` pixels."""
        pairs = zip(image.GetSize()[:2], image.GetSpacing()[:2], self.size, strict=True)
        plane: list[float | None] = [count * step / wanted for count, step, wanted in pairs]
        return Resample([*plane, *[None] * (image.GetDimension() - 2)])(image)


class LongSide:
    """Resample the plane so that its longer side has `pixels`; the aspect stays. `enlarge` false: only ever smaller."""

    def __init__(self, pixels: int, enlarge: bool = True) -> None:
        if pixels < 1:
            raise ValueError(f"pixels {pixels}: must be above 0")
        self.pixels, self.enlarge = int(pixels), enlarge

    def __call__(self, image: sitk.Image) -> sitk.Image:
        """Image → the same extent, the longer side of the plane in `pixels`."""
        extents = [count * step for count, step in zip(image.GetSize()[:2], image.GetSpacing()[:2], strict=True)]
        step = max(extents) / self.pixels
        if not self.enlarge:
            step = max(step, *image.GetSpacing()[:2])
        return Resample([step, step, *[None] * (image.GetDimension() - 2)])(image)
