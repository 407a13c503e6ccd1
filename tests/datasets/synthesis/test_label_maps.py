"""Label maps: values become tissues, a mirrored head keeps its sides, a wrong table is one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.datasets.synthesis.label_maps import map_files, mirrored, read_label_map, read_label_table, tissue_shares
from medseg.errors import DataError
from tests.datasets.synthesis.conftest import ROWS, tiny_head

Maps = Callable[..., Path]


def test_tissue_shares_label_map_gives_tissue_of_each_value(make_maps: Maps) -> None:
    folder = make_maps(1, scale=1)
    labels = read_label_table(folder)
    csf, gm, wm = tissue_shares(read_label_map(map_files(folder)[0], labels).structures, labels)
    values = tiny_head()
    np.testing.assert_array_equal(csf, np.isin(values, (24, 4, 43)))
    np.testing.assert_array_equal(gm, np.isin(values, (3, 42, 10, 49)))
    np.testing.assert_array_equal(wm, np.isin(values, (2, 41)))


def test_read_label_map_other_axes_gives_lps(make_maps: Maps) -> None:
    folder = make_maps(1, scale=1)
    labels = read_label_table(folder)
    file = map_files(folder)[0]
    expected = read_label_map(file, labels)
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), "LIA"), str(file))
    np.testing.assert_array_equal(read_label_map(file, labels).structures, expected.structures)


def test_mirrored_head_swaps_sides(make_maps: Maps) -> None:
    folder = make_maps(1, scale=1)
    labels = read_label_table(folder)
    head = read_label_map(map_files(folder)[0], labels).structures
    flipped = mirrored(head, labels)
    index = {s.value: i for i, s in enumerate(labels.structures)}
    # the left thalamus is twice as large; after the flip the right one is, and it lies on the right again
    assert [(head == index[v]).sum() for v in (10, 49)] == [16, 8]
    assert [(flipped == index[v]).sum() for v in (10, 49)] == [8, 16]
    assert np.flatnonzero((flipped == index[49]).any((0, 1))).max() < head.shape[2] / 2
    assert (flipped == index[24]).sum() == (head == index[24]).sum()
    np.testing.assert_array_equal(mirrored(flipped, labels), head)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("7,left cerebellum,grey,left", ("value 7", "'grey'", "csf, gm, wm, other")),
        ("x,left cerebellum,GM,left", ("'x'", "whole number")),
        ("24,again,CSF,mid", ("24", "twice")),
    ],
)
def test_read_label_table_bad_row_names_file_and_value(make_maps: Maps, row: str, words: tuple[str, ...]) -> None:
    folder = make_maps(1, (*ROWS, row), scale=1)
    with pytest.raises(DataError) as error:
        read_label_table(folder)
    assert all(word in str(error.value) for word in (str(folder / "labels.csv"), *words))


def test_read_label_table_missing_column_or_file_is_error(make_maps: Maps) -> None:
    folder = make_maps(1, ("value,structure", "0,background"), scale=1)
    with pytest.raises(DataError, match="no column 'tissue'"):
        read_label_table(folder)
    (folder / "labels.csv").unlink()
    with pytest.raises(DataError, match="no such file"):
        read_label_table(folder)


def test_read_label_map_unknown_value_names_file_and_value(make_maps: Maps) -> None:
    folder = make_maps(1, ROWS[:-1], scale=1)
    file = map_files(folder)[0]
    with pytest.raises(DataError) as error:
        read_label_map(file, read_label_table(folder))
    assert str(file) in str(error.value)
    assert "value 515, which" in str(error.value)
