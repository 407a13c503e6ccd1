"""The breathing field on a bare box of lungs and on a phantom; traces and their states."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.datasets.phantoms.breathing import (
    REST_PER_S,
    breathing_states,
    deform,
    fit_field,
    harden,
    orient_trace,
    soften,
    synthetic_trace,
)
from medseg.datasets.phantoms.lung import static_phantom
from medseg.datasets.phantoms.lung_anatomy import sample_anatomy
from medseg.errors import ImageError


@pytest.fixture(scope="module")
def rest():
    rng = np.random.default_rng(5)
    return static_phantom(sample_anatomy(rng), rng, "tiny")


@pytest.fixture(scope="module")
def field(rest):
    return fit_field(harden(rest[1]), diaphragm_mm=18, anterior_mm=4, lateral_mm=2)


def air_and_mass(image, mask):
    hu = sitk.GetArrayFromImage(image)[sitk.GetArrayFromImage(mask) > 0]
    return len(hu), float((hu + 1000.0).sum()), float(hu.mean())


def test_deform_zero_amplitude_changes_nothing(rest, field):
    image, mask = deform(*rest, field, 0.0)
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(rest[0]), atol=0.01)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(harden(rest[1])))


def test_deform_lungs_grow_darken_and_keep_mass(rest, field):
    facts = [air_and_mass(*deform(*rest, field, amplitude)) for amplitude in (0.0, 0.35, 0.7, 1.0)]
    volumes, masses, means = zip(*facts, strict=True)
    assert all(np.diff(volumes) > 0)
    assert all(np.diff(means) < 0)
    np.testing.assert_allclose(masses, masses[0], rtol=1e-3)


def test_soften_then_harden_keeps_the_mask():
    rng = np.random.default_rng(5)
    mask = harden(static_phantom(sample_anatomy(rng), rng, "small")[1])
    first, second = (sitk.GetArrayFromImage(each) for each in (mask, harden(soften(mask))))
    for label in (1, 2):
        both = ((first == label) & (second == label)).sum()
        assert 2 * both / ((first == label).sum() + (second == label).sum()) > 0.99


def test_deform_moves_dome_by_amplitude_and_keeps_apex(field):
    x = field.centre[0] + 0.5 * field.radii[0]
    points = np.array([[x, field.centre[1], z] for z in (field.apex, field.dome, field.base)])
    np.testing.assert_allclose(field.displacement(points, 1.0)[:, 2], [0, -18, -18], atol=0.2)
    np.testing.assert_allclose(field.displacement(points, 0.5), field.displacement(points, 1.0) / 2)


def test_deform_keeps_table_and_distant_air(field):
    points = np.array([[field.centre[0], field.centre[1] + 1.5 * field.radii[1], field.dome]])
    np.testing.assert_allclose(field.displacement(points, 1.0), 0, atol=1e-6)


def test_breathing_field_is_invertible(field):
    """The determinant of the forward map stays positive for the strongest breath that traces reach."""
    axes = [np.linspace(c - 1.6 * r, c + 1.6 * r, 40) for c, r in zip(field.centre, field.radii, strict=True)]
    axes.append(np.linspace(field.base - 60, field.apex + 20, 40))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    moved = points + field.displacement(points, 1.5)
    slopes = [np.gradient(moved, axes[i], axis=i) for i in range(3)]
    assert np.linalg.det(np.stack(slopes, axis=-1)).min() > 0.3


def test_deform_flipped_axes_give_the_same_lungs(rest, field):
    image, *shares = (sitk.Flip(each, [False, True, True]) for each in (rest[0], *rest[1]))
    assert image.GetDirection()[8] == -1
    other = fit_field(harden(shares), diaphragm_mm=18, anterior_mm=4, lateral_mm=2)
    assert other.dome == pytest.approx(field.dome)
    volume = air_and_mass(*deform(image, shares, other, 1.0))[0]
    assert volume == pytest.approx(air_and_mass(*deform(*rest, field, 1.0))[0], rel=0.01)


def test_fit_field_missing_lung_raises(rest):
    with pytest.raises(ImageError, match="no voxel of lung 2"):
        fit_field(harden(rest[1]) == 1)


def test_fit_field_oblique_axes_raise(rest):
    turned = harden(rest[1])
    turned.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    with pytest.raises(ImageError, match="reorient"):
        fit_field(turned)


@pytest.mark.parametrize("seed", range(5))
def test_synthetic_trace_has_human_periods(seed):
    times = np.arange(0, 120, 0.05)
    trace = synthetic_trace(np.random.default_rng(seed), times)
    assert -0.1 < trace.min() < 0.1
    assert 0.9 < trace.max() < 1.5
    states = np.array(breathing_states(trace, 0.05))
    breaths = np.count_nonzero((states[1:] == "inhale") & (states[:-1] == "exhale"))
    assert 2.5 <= 120 / breaths <= 6.5
    assert np.mean(trace < 0.25) > np.mean(trace > 0.75)  # the pause is at end-exhale
    assert np.mean(states == "inhale") < 0.5  # inhaling is quicker


def test_breathing_states_follow_slope_and_pause_is_exhale():
    signal = np.array([0, 0.0005, 0, 0.0005, 0.2, 0.6, 0.9, 1.0, 0.8, 0.4, 0.1])
    states = breathing_states(signal, 0.1)
    assert states == ["exhale"] * 3 + ["inhale"] * 4 + ["exhale"] * 4
    slopes = np.gradient(signal, 0.1)
    assert [slope > REST_PER_S for slope in slopes] == [state == "inhale" for state in states]


@pytest.mark.parametrize("sign", [1, -1])
def test_orient_trace_flips_by_the_pause(sign):
    times = np.arange(0, 60, 0.1)
    trace = synthetic_trace(np.random.default_rng(1), times)
    np.testing.assert_array_equal(orient_trace(sign * trace, 0.1), trace)
