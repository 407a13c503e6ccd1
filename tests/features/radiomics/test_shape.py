import cv2
import numpy as np
import pytest
import SimpleITK as sitk
from skimage.measure import perimeter_crofton, regionprops

from medseg.features.radiomics import shape

LABELS = {"a": 1, "b": 2}


def measured(inside, spacing=None):
    mask = sitk.GetImageFromArray(np.uint8(inside))
    mask.SetSpacing(spacing or (1,) * np.ndim(inside))
    return {key.split(".shape_")[1]: value for key, value in shape.frame_features(mask, mask, {"a": 1}).items()}


def ball(radius, ndim, stretch=1.0):
    """A disc or ball, `stretch` times as long along the last axis."""
    shape = [2 * radius + 3] * (ndim - 1) + [int(2 * radius * stretch) + 3]
    parts = np.ogrid[tuple(slice(0, n) for n in shape)]
    scale = [1.0] * (ndim - 1) + [stretch]
    return sum(((p - n // 2) / s) ** 2 for p, n, s in zip(parts, shape, scale, strict=True)) <= radius**2


def koch(size):
    """A snowflake, whose outline is of dimension log 4 / log 3."""
    points = np.array([0, 1, np.exp(-1j * np.pi / 3), 0])
    for _ in range(5):
        start, third = points[:-1], np.diff(points) / 3
        corners = start, start + third, start + third + third * np.exp(1j * np.pi / 3), start + 2 * third
        points = np.append(np.stack(corners, axis=1).ravel(), points[-1])
    outline = np.stack([points.real, points.imag], axis=1)
    outline = (outline - outline.min(axis=0)) * size + 2
    picture = np.zeros((int(1.3 * size), size + 4), np.uint8)
    cv2.fillPoly(picture, [np.int32(np.round(outline))], 1)
    return picture > 0


def test_the_phantom_has_its_published_form(phantom, agree):
    """IBSI reference manual, section 3.1."""
    features = shape.frame_features(*phantom, {"a": 1})
    published = {
        "volume": 556,
        "voxel_volume": 592,
        "surface": 388,
        "surface_to_volume": 0.698,
        "compactness_1": 0.0411,
        "compactness_2": 0.599,
        "sphericity": 0.843,
        "max_diameter": 13.1,
        "major_axis": 11.4,
        "minor_axis": 9.31,
        "least_axis": 8.54,
        "elongation": 0.816,
        "flatness": 0.749,
        "extent": 0.869,
        "solidity": 0.961,
    }
    agree(features, {f"a.shape_{name}": value for name, value in published.items()})


@pytest.mark.parametrize("radius", [10, 60])
def test_a_disc_is_round(radius):
    features = measured(ball(radius, 2))
    near = {"compactness": 1, "circularity": 1, "elongation": 1, "solidity": 1, "extent": np.pi / 4}
    assert {name: features[name] for name in near} == pytest.approx(near, rel=0.1)
    lengths = ("feret_max", "feret_min", "equivalent_diameter", "major_axis", "minor_axis")
    assert [features[name] for name in lengths] == pytest.approx([2 * radius] * 5, rel=0.08)
    assert features["perimeter"] == pytest.approx(2 * np.pi * radius, rel=0.04)
    assert features["border_variance"] < 0.04
    assert (features["components"], features["holes"], features["eccentricity"]) == (1, 0, 0)


def test_a_rectangle_is_what_its_sides_say():
    features = measured(np.ones((30, 40)), spacing=(0.5, 0.5))
    assert features["area"] == pytest.approx(15 * 20)
    assert (features["feret_max"], features["feret_min"]) == pytest.approx((25, 15))
    assert (features["extent"], features["solidity"]) == pytest.approx((1, 1))
    assert features["elongation"] == pytest.approx(0.75, abs=0.001)
    assert features["eccentricity"] == pytest.approx(np.sqrt(1 - features["elongation"] ** 2))


@pytest.mark.parametrize("seed", range(3))
def test_moments_and_perimeter_are_those_of_scikit_image(seed):
    inside = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(80, 90)), (0, 0), 6) > 0
    features, (other,) = measured(inside), regionprops(inside.astype(np.uint8))
    assert features["perimeter"] == pytest.approx(perimeter_crofton(np.pad(inside, 1), 4))
    assert features["eccentricity"] == pytest.approx(other.eccentricity, abs=1e-3)
    assert features["components"] - features["holes"] == other.euler_number
    assert features["extent"] == pytest.approx(other.extent)


def test_flat_pixels_do_not_change_lengths():
    tall = ball(30, 2)
    squeezed = np.ascontiguousarray(tall[::2])  # rows twice as high
    features = measured(squeezed, spacing=(1, 2))
    assert features["perimeter"] == pytest.approx(2 * np.pi * 30, rel=0.03)
    assert features["elongation"] == pytest.approx(1, abs=0.02)
    assert features["border_variance"] < 0.02


def test_pieces_and_holes_are_counted():
    inside = np.zeros((20, 20))
    inside[2:9, 2:9] = 1
    inside[4:6, 4:6] = 0
    inside[9:12, 9:12] = 1  # touches by a corner
    inside[15:18, 15:18] = 1
    features = measured(inside)
    assert (features["components"], features["holes"]) == (2, 1)


def test_a_jagged_border_has_a_higher_fractal_dimension():
    assert measured(ball(100, 2))["fractal_dimension"] == pytest.approx(1, abs=0.06)
    assert measured(koch(400))["fractal_dimension"] == pytest.approx(np.log(4) / np.log(3), abs=0.06)
    assert np.isnan(measured(ball(10, 2))["fractal_dimension"])
    slit = ball(60, 2)
    slit[:60, 60:62] = False
    assert measured(slit)["border_variance"] > 5 * measured(ball(60, 2))["border_variance"]


def test_a_ball_is_round_and_an_ellipsoid_long():
    features = measured(ball(12, 3))
    assert features["volume"] == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.02)
    assert features["surface"] == pytest.approx(4 * np.pi * 144, rel=0.1)  # steps of voxels make it larger
    assert features["sphericity"] == pytest.approx(1, abs=0.09)
    assert (features["elongation"], features["flatness"]) == pytest.approx((1, 1))
    assert features["max_diameter"] == pytest.approx(24, abs=1.1)
    long = measured(ball(8, 3, stretch=2.0))
    assert (long["elongation"], long["flatness"]) == pytest.approx((0.5, 0.5), abs=0.01)
    squeezed = measured(ball(12, 3)[::2], spacing=(1, 1, 2))
    assert squeezed["volume"] == pytest.approx(features["volume"], rel=0.03)


@pytest.mark.parametrize("size", [(5, 6), (5, 6, 7)])
def test_a_label_of_no_or_one_voxel_is_only_counted(size):
    mask = np.zeros(size, np.uint8)
    mask[(2,) * len(size)] = 1
    image = sitk.GetImageFromArray(mask)
    features = shape.frame_features(image, image, LABELS)
    sizes = ("shape_area",) if len(size) == 2 else ("shape_voxel_volume",)
    for name, count in (("a", 1), ("b", 0)):
        known = {key: features[f"{name}.{key}"] for key in (*sizes, "shape_components")}
        assert known == dict.fromkeys(known, count)
        rest = [value for key, value in features.items() if key.startswith(name) and key[2:] not in known]
        assert all(np.isnan(value) or value == 0 for value in rest)
        assert sum(np.isnan(rest)) >= 13


@pytest.mark.parametrize("line", [np.ones((1, 2)), np.ones((2, 1)), np.eye(2), np.ones((1, 1, 2)), np.eye(2)[None]])
def test_two_voxels_are_a_line(line):
    features = measured(line)
    assert features["elongation"] == 0
    assert all(np.isfinite(value) for key, value in features.items() if key != "fractal_dimension")


def test_every_measure_has_its_unit():
    assert {*measured(ball(5, 2)), *measured(ball(5, 3))} == {key.removeprefix("shape_") for key in shape.UNITS}
