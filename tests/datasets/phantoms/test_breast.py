"""Ultrasound phantoms: a tumour and look-alikes that differ only in position, Rayleigh speckle."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medseg.datasets.phantoms import breast
from medseg.datasets.phantoms.breast import FAT, GLAND, Mass


@pytest.mark.parametrize("label", ["benign", "malignant"])
def test_place_masses_look_alikes_differ_only_in_position(label: str) -> None:
    for seed in range(20):
        tumour, *others = breast.place_masses(np.random.default_rng(seed), label, 4)
        assert len(others) == 4
        assert all(other.radii == tumour.radii and other.malignant == tumour.malignant for other in others)
        assert (tumour.radii[0] > tumour.radii[1]) == (label == "benign")  # wider than tall
        assert abs(tumour.centre[0]) < 0.15
        assert FAT < tumour.centre[1] < GLAND
        for x, depth in (other.centre for other in others):
            assert abs(x) > 0.3 or depth < FAT or depth > GLAND


def test_place_masses_many_look_alikes_fit() -> None:
    assert len(breast.place_masses(np.random.default_rng(0), "malignant", 25)) == 26


def test_place_masses_normal_breasts_have_both_kinds() -> None:
    kinds = {breast.place_masses(np.random.default_rng(seed), "normal", 1)[0].malignant for seed in range(20)}
    assert kinds == {False, True}


@pytest.mark.parametrize("look_alikes", [0, 3])
def test_look_alikes_phantom_has_equal_size_and_echo(look_alikes: int) -> None:
    size = {"small": (192, 160)}
    darkness = []
    for seed in range(8):
        image, mask, centres = breast.look_alikes_phantom(np.random.default_rng(seed), look_alikes, "small")
        assert len(centres) == look_alikes + 1
        assert image.shape == mask.shape == size["small"][::-1]
        y, x = ndimage.center_of_mass(mask)
        assert np.hypot(centres[0][0] - x, centres[0][1] - y) < 6  # the first is the tumour's
        for x, y in centres[1:]:
            assert not mask[round(y), round(x)]
        spots = [image[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3].mean() for x, y in centres]
        darkness.append((spots[0], float(np.mean(spots[1:] or [spots[0]]))))
    tumour, others = np.mean(darkness, axis=0)
    assert abs(tumour - others) < 25  # grey levels: the depth and what lies above change the echo a little


def test_breast_phantom_normal_has_no_tumour_and_tumours_are_dark() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        assert not breast.breast_phantom(rng, "normal", 3, "small")[1].any()
        for label in ("benign", "malignant"):
            image, mask = breast.breast_phantom(rng, label, 3, "small")
            around = ndimage.binary_dilation(mask, iterations=6) & ~mask
            assert image[mask].mean() < 0.8 * image[around].mean()


def test_behind_enhances_benign_and_shadows_malignant_masses() -> None:
    x, depth = np.meshgrid(np.linspace(-0.5, 0.5, 101), np.linspace(0, 0.8, 81))
    grid = (x.astype(np.float32), depth.astype(np.float32))
    benign, malignant = (breast._behind(grid, Mass((0.0, 0.3), (0.08, 0.06), which)) for which in (False, True))
    assert benign[42, 50] > 1.3
    assert malignant[42, 50] < 0.6
    for transmission in (benign, malignant):
        assert transmission[:25] == pytest.approx(1)  # nothing changes above
        assert transmission[:, :20] == pytest.approx(1, abs=0.01)  # nor aside


def test_breast_phantom_speckle_is_rayleigh_and_correlated() -> None:
    class OneLook:
        """A generator that always asks for a single look."""

        def __init__(self) -> None:
            self.real = np.random.default_rng(0)

        def __getattr__(self, name: str) -> object:
            return (lambda *_: 1) if name == "integers" else getattr(self.real, name)

    even = np.full((300, 300), 0.5, np.float32)
    grey = breast._scanned(OneLook(), even, np.zeros_like(even)).astype(float)  # type: ignore[arg-type]
    decibel = grey / 255 * breast.RANGE_DB
    assert np.clip(decibel, 5, None).std() == pytest.approx(5.57, rel=0.08)  # of the logarithm of a Rayleigh variable
    amplitude = 10 ** (decibel / 20)
    assert amplitude.mean() / amplitude.std() == pytest.approx(1.91, rel=0.08)  # as the ratio of theory
    lag = np.corrcoef(grey[:, :-1].ravel(), grey[:, 1:].ravel())[0, 1]
    assert lag > 0.3
    assert np.corrcoef(grey[:, :-30].ravel(), grey[:, 30:].ravel())[0, 1] < 0.05


def test_make_cohort_classes_alternate(tmp_path: Path) -> None:
    breast.make_cohort(tmp_path, patients=6, seed=1, size="tiny")
    with (tmp_path / "cases.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["benign", "malignant", "normal"] * 2
