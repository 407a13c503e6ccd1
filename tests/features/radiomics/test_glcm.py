import numpy as np
import pytest
from skimage.feature import graycomatrix

from medseg.features.radiomics.discretization import GrayLevels
from medseg.features.radiomics.glcm import UNITS, glcm_features, matrix


def test_pairs_are_counted_as_scikit_image_counts_them():
    array = np.random.default_rng(0).integers(1, 6, (20, 30)).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    expected = graycomatrix(array, [1], angles, levels=6, symmetric=True).sum(axis=(2, 3))[1:, 1:]
    assert (matrix(GrayLevels(array, 5)) == expected).all()


def test_pairs_across_the_labels_border_do_not_count():
    array = np.array([[1, 2, 0], [0, 0, 3]], np.uint8)
    assert matrix(GrayLevels(array, 3)).tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


def test_a_chessboard_of_two_levels():
    array = np.uint8(np.indices((2, 2)).sum(axis=0) % 2 + 1)
    features = glcm_features(GrayLevels(array, 2))
    # 4 pairs along the axes differ, 2 along the diagonals do not
    assert features["glcm_contrast"] == pytest.approx(4 / 6)
    assert features["glcm_energy"] == pytest.approx(2 * (2 / 6) ** 2 + 2 * (1 / 6) ** 2)
    assert features["glcm_correlation"] == pytest.approx(-1 / 3)
    assert set(features) == set(UNITS)
