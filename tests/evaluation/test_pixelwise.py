import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from medseg.evaluation.pixelwise import BINS, LIMIT, PixelwisePrecisionRecall


@pytest.mark.parametrize("sureness", [0.5, 3.0])
def test_the_area_is_the_average_precision_over_all_pixels_of_all_images(sureness: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((4, 50, 60)) < 0.1
    step = 2 * LIMIT / BINS
    logits = (np.floor((rng.normal(-0.5, 1, truth.shape) + 1.5 * truth) * sureness / step) + 0.5) * step
    scores = 1 / (1 + np.exp(-logits))
    curves = PixelwisePrecisionRecall()
    for number in range(4):
        curves.add("spot", f"p{number}", scores[number], truth[number])
    wanted = average_precision_score(truth.ravel(), np.round(logits, 6).ravel())
    assert curves.summary()["spot"]["mean"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("sureness", [0.5, 3.0, 12.0])  # of the last nearly all lie above .999 or below .001
def test_scores_between_the_steps_lose_little(sureness: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((4, 150, 160)) < 0.1
    logits = (rng.normal(-0.5, 1, truth.shape) + 1.5 * truth) * sureness
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    curves = PixelwisePrecisionRecall()
    for number in range(4):
        curves.add("spot", f"p{number}", scores[number], truth[number])
    found = curves.summary()["spot"]
    assert found["mean"] == pytest.approx(average_precision_score(truth.ravel(), scores.ravel()), abs=2e-3)
    assert found["ci95"][0] < found["mean"] < found["ci95"][1]
    assert found["n"] == 4


def test_certain_pixels_stand_at_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.evaluation.pixelwise.CHUNK", 3)
    curves = PixelwisePrecisionRecall()
    scores = np.array([[0.0, 1.0, 0.2], [0.7, 1.0, 0.0]], np.float32)
    curves.add("spot", "p", scores, scores > 0.5)
    assert curves.summary()["spot"]["mean"] == 1


def test_a_label_that_no_pixel_shows_has_no_area() -> None:
    curves = PixelwisePrecisionRecall()
    curves.add("spot", "p", np.full((2, 2), 0.4, np.float32), np.zeros((2, 2), np.bool_))
    assert curves.summary()["spot"]["mean"] is None
