import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from medseg.pixels import PixelCurves


def test_the_area_is_the_average_precision_over_all_pixels_of_all_images() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((4, 50, 60)) < 0.1
    scores = np.clip(np.round(rng.random((4, 50, 60)) * 0.6 + 0.3 * truth, 3) + 0.0005, 0, 1).astype(np.float32)
    curves = PixelCurves()
    for number in range(4):
        curves.add("spot", f"p{number}", scores[number], truth[number])
    found = curves.summary()["spot"]
    assert found["mean"] == pytest.approx(average_precision_score(truth.ravel(), scores.ravel()), abs=1e-6)
    assert found["ci95"][0] < found["mean"] < found["ci95"][1]
    assert found["n"] == 4


def test_a_label_that_no_pixel_shows_has_no_area() -> None:
    curves = PixelCurves()
    curves.add("spot", "p", np.full((2, 2), 0.4, np.float32), np.zeros((2, 2), np.bool_))
    assert curves.summary()["spot"]["mean"] is None
