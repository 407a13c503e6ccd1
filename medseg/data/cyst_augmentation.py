"""Synthetic cysts in training patches: fluid in place of tissue, since few training cases show fluid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.io.labels import Labels


class SyntheticCysts:
    """Give part of a label the brightness of fluid in one channel, in a fraction `p` of the patches that show it.

    A dead core may be solid or fluid, and FLAIR blacks out fluid as it does in the ventricles: a network trained on
    bright cores only misses a dark one. `inside` names the label, then those inside it that are left as they are;
    `channel` counts the patch's channels from 0; `value` is the range of brightness (0..1), one is drawn a patch.
    """

    def __init__(
        self, labels: Mapping[str, int], exclusive: bool, inside: Sequence[str], channel: int = 0,
        value: Sequence[float] = (0.2, 0.4), p: float = 0.3,
    ) -> None:  # fmt: skip
        low, high = value
        if not inside or set(inside) - set(labels) or not (0 <= low <= high <= 1 and 0 <= p <= 1):
            raise ConfigError(
                f"augment.synthetic_lesions: inside={list(inside)}, value={list(value)}, p={p}: the labels must be "
                f"among {', '.join(labels)}, value a range within 0..1, p between 0 and 1"
            )
        self.labels, self.inside, self.channel = Labels(dict(labels), exclusive), list(inside), channel
        self.low, self.high, self.p = float(low), float(high), p

    def __call__(
        self, image: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """A varied copy of an image (C, *S) in 0..1 with its coded mask (*S); the image itself if nothing changes."""
        region = self.labels.layer(mask, self.inside[0])
        for name in self.inside[1:]:
            region = region & ~self.labels.layer(mask, name)
        if rng.random() >= self.p or not region.any():
            return image
        # a smooth random field above a random level: from a corner of the region to all of it
        size = max(2.0, float(region.sum()) ** (1 / region.ndim) / 4)
        field = ndimage.gaussian_filter(rng.normal(size=region.shape), size)
        wet = region & (field >= np.quantile(field[region], rng.uniform(0.0, 0.7)))
        weight = ndimage.gaussian_filter(wet.astype(np.float32), 0.7)  # fluid and wall share the voxels between them
        varied = image.copy()
        varied[self.channel] += weight * (rng.uniform(self.low, self.high) - varied[self.channel])
        return varied
