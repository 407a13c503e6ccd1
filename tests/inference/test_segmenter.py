"""Rules after a model: labels that may overlap are cleaned each by itself, and `Inside` sees the two it speaks of."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.inference.segmenter import postprocess
from medseg.io.labels import Labels
from medseg.segmentation.postprocessing import Inside, KeepLargest

LABELS = Labels({"whole": 1, "core": 2}, exclusive=False)


def coded() -> sitk.Image:
    """A whole of 6 × 6 with a core in it, and another core far away; a second, smaller whole."""
    whole, core = np.zeros((12, 20), bool), np.zeros((12, 20), bool)
    whole[2:8, 2:8], whole[1:3, 12:14] = True, True
    core[4:6, 4:6], core[8:10, 16:18] = True, True
    return sitk.GetImageFromArray(LABELS.join({"whole": whole, "core": core}))


def counts(mask: sitk.Image) -> tuple[int, int]:
    array = sitk.GetArrayViewFromImage(mask)
    return int(LABELS.layer(array, "whole").sum()), int(LABELS.layer(array, "core").sum())


def test_postprocess_of_overlapping_labels_keeps_overlap() -> None:
    assert counts(coded()) == (40, 8)
    assert counts(postprocess(coded(), [Inside(inner=2, outer=1)], LABELS)) == (40, 4)
    assert counts(postprocess(coded(), [KeepLargest()], LABELS)) == (36, 4)


@pytest.mark.parametrize("cut", [False, True])
def test_postprocess_applies_steps_in_order(cut: bool) -> None:
    cleaned = postprocess(coded(), [KeepLargest([1]), Inside(inner=2, outer=1, cut=cut)], LABELS)
    assert counts(cleaned) == (36, 4)
