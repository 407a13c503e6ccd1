import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.cache import DRAFT, CachedCase, CacheRecipe, atomic_directory, load_or_prepare
from medseg.data.cases import Case
from medseg.data.fingerprint import fingerprint, require_labels_present
from medseg.errors import DataError, ImageError
from medseg.io.labels import Labels
from medseg.preprocess.geometry import Resample, match_mask


def write(path: Path, array: np.ndarray, spacing: float = 2.0) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing,) * array.ndim)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def case(tmp_path: Path) -> Case:
    image = np.random.default_rng(0).normal(size=(6, 10, 12)).astype(np.float32)
    mask = np.zeros((6, 10, 12), np.uint8)
    mask[1:5, 2:8, 3:9] = 1
    mask[2, 4, 4] = 2
    return Case("a", "P", {"ct": write(tmp_path / "a.nii.gz", image)}, write(tmp_path / "am.nii.gz", mask))


def prepare(case: Case, folder: Path, settings: str = "s") -> CachedCase:
    step = Resample((4.0, 4.0, None))
    return load_or_prepare(
        case,
        folder,
        CacheRecipe(
            lambda images: {n: step(i) for n, i in images.items()},
            match_mask,
            Labels({"organ": 1, "spot": 2}),
            settings,
        ),
    )


def test_a_case_is_preprocessed_once(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(case, tmp_path / "cache")
    assert first.image().shape == (1, 6, 5, 6)
    assert first.mask().shape == (6, 5, 6)
    assert isinstance(first.image(), np.memmap)
    monkeypatch.setattr("medseg.data.cache.read_image", lambda *_: pytest.fail("it was read again"))
    assert prepare(case, tmp_path / "cache") == first


def test_other_settings_or_bytes_make_another_entry(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = prepare(case, folder)
    assert prepare(case, folder, "other").folder != first.folder
    write(case.image, np.ones((6, 10, 12), np.float32))
    assert prepare(case, folder).folder != first.folder
    assert len(list(folder.iterdir())) == 3  # nothing half-made is left


def test_half_an_entry_is_not_believed(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    whole = prepare(case, folder)
    pixels = whole.image().copy()
    (whole.folder / "facts.json").unlink()
    (whole.folder / "image.npy").write_bytes(b"cut off")
    again = prepare(case, folder)
    assert again == whole
    assert np.array_equal(again.image(), pixels)


def test_an_entry_appears_whole_or_not_at_all(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_args: object, **_arrays: object) -> None:
        raise SystemExit(130)

    with monkeypatch.context() as patch:
        patch.setattr("medseg.data.cache.np.savez", killed)
        with pytest.raises(SystemExit):
            prepare(case, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_two_processes_at_once_make_one_entry(tmp_path: Path) -> None:
    target = tmp_path / "entry"
    with atomic_directory(target, "facts.json") as slow:
        (slow / "facts.json").write_text("slow")
        with atomic_directory(target, "facts.json") as fast:
            (fast / "facts.json").write_text("fast")
    assert (target / "facts.json").read_text() == "fast"
    assert list(tmp_path.iterdir()) == [target]


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / f"{DRAFT}old", tmp_path / f"{DRAFT}young"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (0, 0))
    with atomic_directory(tmp_path / "entry", "a") as part:
        (part / "a").touch()
    assert not old.exists()
    assert young.exists()


FILLER = """
import sys
from pathlib import Path
from medseg.data.cache import atomic_directory
for number in range(300):
    with atomic_directory(Path(sys.argv[1]) / f"{sys.argv[2]}{number}", "a") as part:
        (part / "a").touch()
"""


def test_processes_may_fill_one_cache_at_once(tmp_path: Path) -> None:
    ends = [subprocess.Popen([sys.executable, "-c", FILLER, str(tmp_path), name]) for name in "abc"]
    assert [end.wait(timeout=300) for end in ends] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 900


def test_a_folder_that_goes_while_the_cache_is_swept_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "glob", lambda *_: iter([tmp_path / f"{DRAFT}gone"]))
    with atomic_directory(tmp_path / "entry", "a") as part:
        (part / "a").touch()
    assert (tmp_path / "entry" / "a").is_file()


def test_locations_are_voxels_of_the_label(case: Case, tmp_path: Path) -> None:
    ready = prepare(case, tmp_path / "cache")
    for name, places in ready.locations().items():
        assert np.all(ready.mask()[tuple(places.T)] == {"organ": 1, "spot": 2}[name])


def test_a_mask_that_does_not_fit_or_is_missing_is_an_image_error(case: Case, tmp_path: Path) -> None:
    assert case.mask is not None
    with pytest.raises(ImageError, match="no mask"):
        prepare(replace(case, mask=None), tmp_path / "cache")
    write(case.mask, np.zeros((6, 10, 11), np.uint8))
    with pytest.raises(ImageError, match="does not lie on the grid"):
        prepare(case, tmp_path / "cache")


def test_the_fingerprint_counts_and_checks_labels(case: Case, tmp_path: Path) -> None:
    ready = prepare(case, tmp_path / "cache")
    found = fingerprint([ready.facts()], 1, {"organ": 1, "spot": 2}, synthetic=False)
    assert found["voxels"] == {"organ": 4 * 6 * 6 - 1, "spot": 1}
    assert found["spacing_mm"] == [2, 2, 2]
    assert found["size"] == [12, 10, 6]
    assert set(found["intensity"]["ct"]) == {"p0.5", "median", "p99.5", "mean", "sd", "min", "max"}
    require_labels_present(found, ["organ", "spot"])
    absent = fingerprint([ready.facts()], 1, ["organ", "ghost"], synthetic=False)
    with pytest.raises(DataError, match="no training mask shows ghost"):
        require_labels_present(absent, ["organ", "ghost"])


def test_other_pixels_behind_the_same_header_are_another_case(tmp_path: Path) -> None:
    cases = []
    for name, value in (("one", 1.0), ("two", 2.0)):
        folder = tmp_path / name
        folder.mkdir()
        image = write(folder / "ct.mhd", np.full((4, 6, 8), value, np.float32))
        mask = write(folder / "m.nii.gz", np.eye(6, 8, dtype=np.uint8)[None].repeat(4, 0))
        cases.append(Case(name, name, {"ct": image}, mask))
    first, second = (prepare(case, tmp_path / "cache") for case in cases)
    assert first.folder != second.folder


def test_a_4d_image_is_named(tmp_path: Path) -> None:
    frame = sitk.Image([4, 4, 4], sitk.sitkUInt8)
    sitk.WriteImage(sitk.JoinSeries([frame, frame]), str(tmp_path / "s.nii.gz"))
    with pytest.raises(ImageError, match="4D sequence"):
        prepare(Case("s", "s", {"ct": tmp_path / "s.nii.gz"}, tmp_path / "s.nii.gz"), tmp_path / "cache")


def test_labels_that_overlap_are_cached_as_bits(tmp_path: Path) -> None:
    image = write(tmp_path / "i.png", np.zeros((8, 8), np.uint8))
    spots = np.zeros((8, 8), np.uint8)
    spots[:4] = 255
    both = Labels({"a": 1, "b": 2, "c": 3}, exclusive=False)
    files = {"a": write(tmp_path / "a.png", spots), "b": write(tmp_path / "b.png", spots.T.copy()), "c": None}
    recipe = CacheRecipe(lambda images: images, match_mask, both, "s")
    ready = load_or_prepare(Case("i", "i", {"photo": image}, masks=files), tmp_path / "cache", recipe)
    assert ready.mask()[0, 0, [0, 7]].tolist() == [3, 1]
    assert ready.mask()[0, 7, [0, 7]].tolist() == [2, 0]
    assert ready.facts()["known"] == ["a", "b", "c"]
    assert ready.facts()["voxels"] == {"a": 32, "b": 32, "c": 0}
    assert set(ready.locations()) == {"a", "b"}


def test_a_changed_mask_makes_another_entry(case: Case, tmp_path: Path) -> None:
    first = prepare(case, tmp_path / "cache")
    assert case.mask is not None
    image = sitk.ReadImage(str(case.mask))
    changed = sitk.GetArrayFromImage(image)
    changed[changed > 0] = 2
    write(case.mask, changed)
    second = prepare(case, tmp_path / "cache")
    assert second != first
    assert (first.mask() == 1).any()
    assert not (second.mask() == 1).any()
    assert (second.mask() == 2).any()
