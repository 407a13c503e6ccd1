"""Against the values published for IBSI's digital phantom (reference manual, sections 3.6 to 3.11)."""

import math

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.features.radiomics import texture
from medseg.io.labels import Labels

# in the order of each matrix's measures: 3D merged (IAZD, 9QMG, KOBO), then 2D slice-merged (SUJT, 8QNN)
PUBLISHED = {
    "glcm": (
        "joint_maximum joint_average joint_variance joint_entropy dissimilarity difference_variance difference_entropy "
        "sum_entropy energy contrast inverse_difference inverse_difference_normalised inverse_difference_moment "
        "inverse_difference_moment_normalised inverse_variance correlation autocorrelation cluster_tendency "
        "cluster_shade cluster_prominence information_correlation_1 information_correlation_2",
        ".509 2.15 3.13 2.57 1.38 3.21 1.64 2.11 .291 5.12 .688 .856 .631 .902 .0574 .183 5.19 7.41 17.4 147 "
        "-.0288 .269",
        ".512 2.14 2.71 2.24 1.4 3.06 1.49 1.79 .352 5.19 .683 .854 .625 .901 .0553 .0173 5.14 5.66 6.98 80.4 "
        "-.0341 .263",
    ),
    "glrlm": (
        "",
        ".729 2.76 .607 9.64 .372 8.67 2.16 15.6 281 .43 328 .501 .68 3.48 .598 2.62",
        ".661 3.51 .609 9.74 .311 8.67 2.92 16.1 20.5 .456 21.6 .441 .627 3.37 .778 2.57",
    ),
    "glszm": (
        "",
        ".255 550 .253 15.6 .0256 2.76 503 1490 1.4 .28 1 .2 .0676 2.64 331 2.32",
        ".363 43.9 .371 16.4 .0259 10.3 40.4 113 1.41 .323 1.49 .333 .24 3.97 21 1.93",
    ),
    "gldzm": (
        "",
        "1 1 .253 15.6 .253 15.6 .253 15.6 1.4 .28 5 1 .0676 2.64 0 1.92",
        ".946 1.21 .371 16.4 .367 15.2 .386 21.3 1.41 .323 3.79 .898 .24 3.97 .051 1.73",
    ),
    "ngtdm": (
        "coarseness contrast busyness complexity strength",
        ".0296 .584 6.54 13.5 .763",
        ".121 .925 2.99 10.4 2.88",
    ),
    "ngldm": (
        "small_emphasis large_emphasis low_grey_emphasis high_grey_emphasis small_low_grey_emphasis "
        "small_high_grey_emphasis large_low_grey_emphasis large_high_grey_emphasis grey_non_uniformity "
        "grey_non_uniformity_normalised non_uniformity non_uniformity_normalised grey_variance variance entropy energy",
        ".045 109 .693 7.66 .00963 .736 102 235 37.9 .512 4.86 .0657 3.05 22.1 4.4 .0533",
        ".158 19.2 .702 7.49 .0473 3.06 17.6 49.5 10.2 .562 3.96 .212 2.7 2.73 2.71 .17",
    ),
}
SIXTEEN = (
    "small_emphasis large_emphasis low_grey_emphasis high_grey_emphasis small_low_grey_emphasis "
    "small_high_grey_emphasis large_low_grey_emphasis large_high_grey_emphasis grey_non_uniformity "
    "grey_non_uniformity_normalised non_uniformity non_uniformity_normalised percentage grey_variance variance entropy"
)


@pytest.mark.parametrize(("thick", "column"), [(math.inf, 1), (0.0, 2)], ids=["volume", "slices"])
@pytest.mark.parametrize("prefix", PUBLISHED)
def test_the_phantom_has_its_published_texture(phantom, agree, prefix, thick, column):
    features = texture.frame_features(*phantom, {"a": 1}, bin_width=1.0, thick=thick)
    names = (PUBLISHED[prefix][0] or SIXTEEN).split()
    values = [float(value) for value in PUBLISHED[prefix][column].split()]
    agree(features, {f"a.{prefix}_{name}": value for name, value in zip(names, values, strict=True)})


def test_every_measure_that_is_promised_is_published(phantom):
    named = {f"{prefix}_{name}" for prefix, row in PUBLISHED.items() for name in (row[0] or SIXTEEN).split()}
    assert named == set(texture.UNITS)
    assert {key.split(".")[1] for key in texture.frame_features(*phantom, {"a": 1})} == set(texture.UNITS)


def test_thick_slices_are_measured_one_by_one_whichever_axis_they_cross(phantom):
    image, mask = phantom
    expected = texture.frame_features(image, mask, {"a": 1}, bin_width=1.0, thick=0)
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        turned = [sitk.PermuteAxes(sitk_image, order) for sitk_image in phantom]
        for sitk_image in turned:
            sitk_image.SetSpacing([2 if axis < 2 else 5 for axis in order])
        assert texture.frame_features(*turned, {"a": 1}, bin_width=1.0) == pytest.approx(expected)


def test_a_picture_is_a_slice(phantom):
    part = [image[:, :, 0] for image in phantom]
    stacked = [sitk.JoinSeries([image], 0.0, 2.0) for image in part]
    flat = texture.frame_features(*part, {"a": 1}, bin_width=1.0)
    assert flat == pytest.approx(texture.frame_features(*stacked, {"a": 1}, bin_width=1.0, thick=0))


def test_grey_levels_do_not_depend_on_scale_and_colour_is_its_luma(phantom):
    image, mask = phantom
    scaled = texture.frame_features(image * 7 - 3, mask, {"a": 1})
    assert scaled == pytest.approx(texture.frame_features(image, mask, {"a": 1}))
    part, shape = image[:, :, 0], mask[:, :, 0]
    colour = sitk.Compose(part, part, part)
    grey = texture.frame_features(part, shape, {"a": 1})
    assert texture.frame_features(colour, shape, {"a": 1}) == pytest.approx(grey)


def test_overlapping_labels_are_measured_by_their_bits(phantom):
    image, mask = phantom
    both = Labels({"a": 1, "b": 2}, exclusive=False)
    whole = sitk.Cast(mask * 3, sitk.sitkUInt8)
    features = texture.frame_features(image, whole, both)
    assert features["a.glcm_contrast"] == features["b.glcm_contrast"] > 0


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_label_too_small_or_flat_gives_no_number(dimension):
    mask = np.zeros((6,) * dimension, np.uint8)
    mask[(2,) * dimension] = 1
    mask[(5,) * dimension] = 3
    mask[(0,) * dimension] = 3  # two voxels without a neighbour
    mask[(slice(3, 5),) * dimension] = 4
    images = sitk.GetImageFromArray(np.ones(mask.shape, np.float32)), sitk.GetImageFromArray(mask)
    features = texture.frame_features(*images, {"one": 1, "absent": 2, "apart": 3, "flat": 4})
    blank = [features[f"{name}.{key}"] for name in ("one", "absent") for key in texture.UNITS]
    assert np.isnan(blank).all()
    assert np.isnan(
        [features["apart.glcm_contrast"], features["apart.ngtdm_contrast"], features["flat.glcm_correlation"]]
    ).all()
    assert features["flat.glcm_contrast"] == 0
    assert features["flat.glszm_percentage"] == 1 / 2**dimension
