"""Maps of values 0..1 in PNG and NIfTI."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.probability_maps import map_file, write_map
from medseg.inference.confidence import PROBABILITIES, UNCERTAINTY, KeptMaps
from medseg.io.geometry import grid_difference
from medseg.io.labels import Labels


def test_png_holds_65535ths(tmp_path: Path) -> None:
    values = np.array([[0, 0.25, 1], [0.5, 1 / 65535, 1.0000001]], np.float32)
    like = sitk.Image([3, 2], sitk.sitkUInt8)
    file = map_file(tmp_path / "a.b.png", like, "lesion")
    assert file == tmp_path / "a.b_lesion.png"
    write_map(values, like, file)
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(file))).tolist() == [[0, 16384, 65535], [32768, 1, 65535]]


@pytest.mark.parametrize("size", [(4, 3, 2), (4, 3, 2, 5)])
def test_nifti_of_a_volume_or_sequence_has_its_grid_and_1024ths(tmp_path: Path, size: tuple[int, ...]) -> None:
    like = sitk.Image(size, sitk.sitkUInt8)
    like.SetSpacing([1.5, 2, 3, 1][: len(size)])
    values = np.random.default_rng(0).random(size[::-1]).astype(np.float32)
    before = values.copy()
    file = map_file(tmp_path / "v.nrrd", like, "")
    assert file.name == "v.nii.gz"
    write_map(values, like, file)
    stored = sitk.ReadImage(str(file))
    assert stored.GetPixelID() == sitk.sitkFloat32
    assert len(size) == 4 or grid_difference(stored, like) is None
    array = sitk.GetArrayFromImage(stored)
    assert (array == np.rint(values.astype(np.float64) * 1024) / 1024).all()
    assert (values == before).all()


def test_kept_maps_of_a_sequence_have_a_time_axis() -> None:
    labels = Labels({"a": 1, "b": 2}, exclusive=False)
    frames = [{name: np.full((2, 3, 4), p, np.float32) for name in ("a", "b")} for p in (0.5, 0.0)]
    maps = KeptMaps(probabilities=True, uncertainty=True).of(frames, labels)
    assert set(maps) == {(PROBABILITIES, "a"), (PROBABILITIES, "b"), (UNCERTAINTY, "")}
    assert {values.shape for values in maps.values()} == {(2, 2, 3, 4)}
    assert maps[UNCERTAINTY, ""][:, 0, 0, 0] == pytest.approx([1, 0], abs=1e-4)
    assert KeptMaps().of(frames, labels) == {}
    assert (KeptMaps().volumes(labels), KeptMaps(uncertainty=True).volumes(labels)) == (0, 4)
