import numpy as np
import SimpleITK as sitk

from medseg.config.compose import compose
from medseg.inference.preprocessor import Preprocessor


def test_preprocessor_of_differing_fields_gives_one_grid() -> None:
    """A brain that reaches further in one channel than in the other: crops differ, what lies on top of it does not."""
    _, y, x = np.indices((20, 60, 60))
    wide, narrow = (np.hypot(y - 30, x - 30) < radius for radius in (24, 20))
    spot = np.hypot(y - 25, x - 35) < 3
    rng = np.random.default_rng(0)
    channels = {}
    for name, inside in (("flair", wide), ("t1c", narrow)):
        values = np.where(spot, 300.0, 100.0 + rng.normal(0, 5, spot.shape)) * inside
        channels[name] = sitk.GetImageFromArray(values.astype(np.float32))
    ready = Preprocessor(compose(["organ=brain_tumour"]))(channels)
    flair, t1c = (sitk.GetArrayFromImage(ready[name]) for name in ("flair", "t1c"))
    assert flair.shape == t1c.shape
    assert np.array_equal(flair > 0.9, t1c > 0.9)
    assert (flair > 0.9).any()
