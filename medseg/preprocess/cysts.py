"""Cysts painted into training patches: fluid where tissue was, since few training cases show what fluid looks like."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.data.labels import Labels
from medseg.errors import ConfigError


class Cysts:
    """Give part of a label the brightness of fluid in one channel, in a share `p` of the patches that show it.

    A dead core may be solid or fluid, and FLAIR blacks out fluid as it does in the ventricles: a network that saw only
    bright cores overlooks a dark one. `inside` names the label, `but` one inside it that is left as it is; `channel`
    counts the patch's channels from 0, `value` is the range of brightness (0..1, one is drawn a patch).
    """

    def __init__(
        self, labels: Labels, inside: str, but: str | None = None, channel: int = 0,
        value: tuple[float, float] = (0.2, 0.4), p: float = 0.3,
    ) -> None:  # fmt: skip
        strange = {inside, but} - {None, *labels.numbers}
        if strange or not (0 <= value[0] <= value[1] <= 1 and 0 <= p <= 1):
            raise ConfigError(
                f"augment.paint: inside={inside}, but={but}, value={list(value)}, p={p}: the labels must be among "
                f"{', '.join(labels.numbers)}, value a range within 0..1, p between 0 and 1"
            )
        self.labels, self.inside, self.but, self.channel = labels, inside, but, channel
        self.value, self.p = (float(value[0]), float(value[1])), p

    def __call__(
        self, image: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """A varied copy of an image (C, *S) in 0..1 with its coded mask (*S); the image itself if nothing changes."""
        region = self.labels.layer(mask, self.inside)
        if self.but is not None:
            region = region & ~self.labels.layer(mask, self.but)
        if rng.random() >= self.p or not region.any():
            return image
        # a smooth random field above a level that is drawn too: from a corner of the region to all of it
        size = max(2.0, float(region.sum()) ** (1 / region.ndim) / 4)
        field = ndimage.gaussian_filter(rng.normal(size=region.shape), size)
        wet = region & (field >= np.quantile(field[region], rng.uniform(0.0, 0.7)))
        weight = ndimage.gaussian_filter(wet.astype(np.float32), 0.7)  # fluid and wall share the voxels between them
        varied = image.copy()
        varied[self.channel] += weight * (rng.uniform(*self.value) - varied[self.channel])
        return varied
