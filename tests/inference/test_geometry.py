"""However a volume is stored, the same places get the same labels, and the mask has the image's header."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.config.compose import compose
from medseg.inference.segmenter import Segmenter
from medseg.io.geometry import grid_difference
from medseg.io.image import read_image, read_mask, write_image
from medseg.runs.run import open_run
from medseg.training.train import train

ORDERS = [
    "".join(letters) for order in itertools.permutations(("RL", "AP", "IS")) for letters in itertools.product(*order)
]


@pytest.fixture(scope="module")
def model(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    folder = tmp_path_factory.mktemp("otsu")
    words = ["organ=lung", "segmenter=otsu", f"data.root={cohort}", f"data.cache={folder / 'cache'}"]
    train(compose([*words, f"run_dir={folder / 'run'}", "compute.accelerator=cpu", "compute.num_threads=1"]))
    return Segmenter.from_run(open_run(folder / "run"), "cpu")


@pytest.fixture(scope="module")
def scan(cohort: Path) -> sitk.Image:
    return sitk.DICOMOrient(read_image(sorted((cohort / "images").glob("*.nii.gz"))[0]), "LPS")


@pytest.fixture(scope="module")
def straight(model: Segmenter, scan: sitk.Image) -> np.ndarray:
    mask = sitk.GetArrayFromImage(model({"ct": scan}))
    assert set(np.unique(mask)) == {0, 1, 2}
    return mask


@pytest.mark.parametrize("order", ORDERS)
def test_all_48_orders_of_axes_give_the_same_labels(
    model: Segmenter, scan: sitk.Image, straight: np.ndarray, order: str
) -> None:
    turned = sitk.DICOMOrient(scan, order)
    mask = model({"ct": turned})
    assert grid_difference(mask, turned) is None
    back = sitk.GetArrayFromImage(sitk.DICOMOrient(mask, "LPS"))
    assert (back == straight).mean() >= 0.999


def test_orientations_are_48() -> None:
    assert len(set(ORDERS)) == 48


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
@pytest.mark.parametrize("degrees", [0, 7, 20])
def test_oblique_volumes_keep_their_header_in_every_format(
    model: Segmenter, scan: sitk.Image, straight: np.ndarray, suffix: str, degrees: int, tmp_path: Path
) -> None:
    turn = sitk.Euler3DTransform((0, 0, 0), 0, 0, np.deg2rad(degrees))
    image = sitk.Image(scan)
    image.SetDirection(turn.GetMatrix())
    image.SetOrigin((-31.5, 402.25, -77.125))
    write_image(image, tmp_path / f"scan{suffix}")
    read = read_image(tmp_path / f"scan{suffix}")
    assert grid_difference(read, image) is None
    mask = model({"ct": read})
    write_image(mask, tmp_path / "out" / f"mask{suffix}")
    written = read_mask(tmp_path / "out" / f"mask{suffix}")
    assert grid_difference(written, image) is None
    assert (sitk.GetArrayFromImage(written) == straight).mean() >= 0.999


@pytest.mark.parametrize("flip", [(False, False), (True, False), (False, True), (True, True)])
def test_segment_of_2d_images_in_any_direction(model: Segmenter, flip: tuple[bool, bool]) -> None:
    flat = sitk.Image(64, 48, sitk.sitkFloat32) + 40
    flat[10:20, 8:30] = -800
    flat[40:52, 8:30] = -800
    turned = sitk.Flip(flat, flip)
    mask = model({"ct": turned})
    assert grid_difference(mask, turned) is None
    assert (sitk.GetArrayFromImage(sitk.Flip(mask, flip)) > 0).tolist() == (
        sitk.GetArrayFromImage(model({"ct": flat})) > 0
    ).tolist()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
@pytest.mark.parametrize("mirror", [1, -1])
def test_flat_images_keep_their_header_in_every_format(
    model: Segmenter, suffix: str, mirror: int, tmp_path: Path
) -> None:
    flat = sitk.Image(64, 48, sitk.sitkFloat32) + 40
    flat[10:20, 8:30] = -800
    flat[40:52, 8:30] = -800
    straight = sitk.GetArrayFromImage(model({"ct": flat}))
    flat.SetDirection((0.8, -0.6 * mirror, 0.6, 0.8 * mirror))
    flat.SetOrigin((-12.5, 300.25))
    write_image(flat, tmp_path / f"scan{suffix}")
    read = read_image(tmp_path / f"scan{suffix}")
    assert grid_difference(read, flat) is None
    write_image(model({"ct": read}), tmp_path / "out" / f"mask{suffix}")
    written = read_mask(tmp_path / "out" / f"mask{suffix}")
    assert grid_difference(written, flat) is None
    assert ((sitk.GetArrayFromImage(written) > 0) == (straight > 0)).mean() >= 0.999
