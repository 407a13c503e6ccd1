"""`segment --output-format`: every word, and DICOM SEG from one series of slices to a ledger's line."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk

from medseg.io.dicom.series import series_stacks
from medseg.io.dicom.stack import SliceStack
from medseg.io.geometry import grid_difference
from medseg.io.image import read_image
from tests.dicom_files import NAME, SERIES, write_scan

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def rule(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenter of lungs without training."""
    from medseg.config.compose import compose
    from medseg.training.train import train

    folder = tmp_path_factory.mktemp("rule")
    words = ["organ=lung", "segmenter=otsu", f"data.root={cohort}", f"data.cache={folder / 'cache'}"]
    train(compose([*words, f"run_dir={folder / 'run'}", "compute.accelerator=cpu", "compute.num_threads=1"]))
    return folder / "run"


@pytest.fixture
def scans(cohort: Path, tmp_path: Path) -> Path:
    """Two DICOM series in a tree, and a volume that is none."""
    found = sorted((cohort / "images").glob("*.nii.gz"))
    folder = tmp_path / "scans"
    write_scan(read_image(found[0]), folder / "p1/ct")
    write_scan(read_image(found[1]), folder / "p2")
    sitk.WriteImage(read_image(found[2]), str(folder / "p3.mha"))
    return folder


def ledger(out: Path) -> dict[str, dict[str, str]]:
    with (out / "cases.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


ENDINGS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", ".nii": ".nii"}


@pytest.mark.parametrize(("word", "ending"), ENDINGS.items())
def test_masks_in_the_format_that_is_asked_for(
    medseg: Command, scans: Path, rule: Path, tmp_path: Path, word: str, ending: str
) -> None:
    out = tmp_path / "out"
    assert medseg("segment", scans, out, "--model", rule, "--output-format", word, "--glob", "p2", "-q").status == 0
    assert grid_difference(read_image(out / f"p2{ending}"), read_image(scans / "p2")) is None


def test_dicom_seg_says_what_nifti_says(medseg: Command, scans: Path, rule: Path, tmp_path: Path) -> None:
    out, plain = tmp_path / "out", tmp_path / "plain"
    assert medseg("segment", scans, plain, "--model", rule, "--glob", "p1/*", "-q").status == 0
    result = medseg("segment", scans, out, "--model", rule, "--output-format", "dicom-seg", "--json")
    assert result.status == 3
    rows = ledger(out)
    assert {name: row["code"] for name, row in rows.items()} == {"p1/ct": "", "p2": "", "p3": "dicom-seg"}
    assert "p3.mha: a DICOM SEG needs DICOM source slices" in result.err
    assert rows["p1/ct"]["outputs"] == "p1/ct.seg.dcm"
    data = pydicom.dcmread(out / "p1/ct.seg.dcm")
    mask = read_image(plain / "p1/ct.nii.gz")
    array = np.zeros(mask.GetSize()[::-1], np.uint8)
    for pixels, group in zip(data.pixel_array, data.PerFrameFunctionalGroupsSequence, strict=True):
        place = mask.TransformPhysicalPointToIndex(
            [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        )
        array[place[2]][pixels > 0] = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(mask))
    assert set(np.unique(array)) == {0, 1, 2}
    assert data.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Right lung"
    assert data.SegmentSequence[0].SegmentAlgorithmName == "medseg run"


def test_segment_into_dicom_seg_reads_the_headers_of_a_series_once(
    medseg: Command, scans: Path, rule: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(folder: Path, series: str | None = None) -> list[SliceStack]:
        read.append(folder.name)
        return series_stacks(folder, series)

    monkeypatch.setattr("medseg.io.dicom.seg_writer.series_stacks", counted)
    words = ["segment", scans, tmp_path / "out", "--model", rule, "--glob", "p[12]*", "-q"]
    assert medseg(*words, "--output-format", "dicom-seg").status == 0
    assert sorted(read) == ["ct", "p2"]


def test_a_seg_that_is_done_is_kept_and_one_that_was_altered_is_made_again(
    medseg: Command, scans: Path, rule: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["segment", scans, out, "--model", rule, "--output-format", "dicom-seg", "--glob", "p[12]*", "-q"]
    assert medseg(*words).status == 0
    files = [out / "p1/ct.seg.dcm", out / "p2.seg.dcm"]
    content = [file.read_bytes() for file in files]
    times = [file.stat().st_mtime_ns for file in files]
    assert medseg(*words).status == 0
    assert [file.stat().st_mtime_ns for file in files] == times
    files[0].write_bytes(content[0][:-10])
    assert medseg(*words).status == 0
    assert [file.read_bytes() for file in files] == content
    assert files[1].stat().st_mtime_ns == times[1]
    assert medseg(*words, "--keep-patient-data").status == 0
    assert pydicom.dcmread(files[0]).PatientName == NAME


def test_dicom_seg_is_measured_as_nifti_is(medseg: Command, scans: Path, rule: Path, tmp_path: Path) -> None:
    tables = []
    for word in ("nifti", "dicom-seg"):
        masks, table = tmp_path / word, tmp_path / f"{word}.csv"
        words = ["--glob", "p[12]*", "-q"]
        assert medseg("segment", scans, masks, "--model", rule, "--output-format", word, *words).status == 0
        assert medseg("extract-features", scans, masks, table, *words).status == 0
        tables.append(pd.read_csv(table))
    assert tables[0]["case"].tolist() == ["p1/ct", "p2"]
    pd.testing.assert_frame_equal(*tables, rtol=1e-4)  # NIfTI keeps its grid in 32 bits


def test_one_of_several_series_is_chosen_and_referred_to(
    medseg: Command, scans: Path, cohort: Path, rule: Path, tmp_path: Path
) -> None:
    image = read_image(sorted((cohort / "images").glob("*.nii.gz"))[0])
    facts = {"SeriesInstanceUID": f"{SERIES}.2", "SeriesDescription": f"{NAME} 40%"}
    write_scan(image[:, :, 4:], scans / "p2/more", **facts)
    for path in (scans / "p2/more").iterdir():
        path.rename(scans / f"p2/b{path.name}")
    words = ["segment", scans, tmp_path / "out", "--model", rule, "--output-format", "dicom-seg", "--glob", "p2"]
    result = medseg(*words)
    assert result.status == 1
    assert f"{SERIES}.2 CT, {image.GetSize()[2] - 4} slices" in result.err
    assert "phase 40%" in result.err
    assert "Mustermann" not in result.err
    assert medseg(*words, "--series-uid", f"{SERIES}.2").status == 0
    data = pydicom.dcmread(tmp_path / "out/p2.seg.dcm")
    assert [item.SeriesInstanceUID for item in data.ReferencedSeriesSequence] == [f"{SERIES}.2"]


def test_a_mask_beside_its_series_is_no_case(medseg: Command, scans: Path, rule: Path, tmp_path: Path) -> None:
    words = ["--model", rule, "--glob", "p2", "-q"]
    assert medseg("segment", scans, tmp_path / "a", *words, "--output-format", "dicom-seg").status == 0
    (tmp_path / "a/p2.seg.dcm").rename(scans / "p2/mask.dcm")
    assert medseg("segment", scans, tmp_path / "b", *words).status == 0
    assert list(ledger(tmp_path / "b")) == ["p2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output-format", "dicom"], ["--output-format dicom", "dicom-seg", ".nrrd"]),
        (["--keep-patient-data"], ["--output-format dicom-seg"]),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    medseg: Command, scans: Path, rule: Path, tmp_path: Path, words: list[str], said: list[str]
) -> None:
    result = medseg("segment", scans, tmp_path / "out", "--model", rule, *words)
    assert result.status == 2
    assert all(word in result.err for word in said)
    assert not (tmp_path / "out").exists()


def test_dicom_segs_are_measured_but_not_evaluated(medseg: Command, scans: Path, rule: Path, tmp_path: Path) -> None:
    tables = {}
    for word in ("nifti", "dicom-seg"):
        out, table = tmp_path / word, tmp_path / f"{word}.csv"
        assert medseg("segment", scans, out, "--model", rule, "--output-format", word, "--glob", "p2", "-q").status == 0
        assert medseg("extract-features", scans, out, table, "--glob", "p2", "-q").status == 0
        tables[word] = pd.read_csv(table)
    pd.testing.assert_frame_equal(tables["nifti"], tables["dicom-seg"], rtol=1e-6)  # NIfTI rounds places to 32 bits
    for seg in (tmp_path / "dicom-seg", tmp_path / "dicom-seg" / "p2.seg.dcm"):
        for pair in ((seg, tmp_path / "nifti"), (tmp_path / "nifti", seg)):
            result = medseg("evaluate", *pair)
            assert result.status == 2
            assert "a DICOM SEG can be read only together with its image" in result.err
            assert "--output-format nifti" in result.err
