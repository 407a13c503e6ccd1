"""The U-Net's deepest features by region: the right places, the same numbers again, no patient it learnt from."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from medseg.commands.diagnose import DiagnoseRequest, diagnose_folder
from medseg.commands.model_package import export_model
from medseg.config.compose import compose
from medseg.errors import ConfigError
from medseg.features import axial as slices
from medseg.features import radial_sectors as radial
from medseg.features.dermoscopy import abcd
from medseg.inference.encoder import DeepFeatures
from medseg.inference.segmenter import Segmenter
from medseg.runs.run import open_run
from medseg.segmentation.sliding_window import Tiling, encode
from medseg.segmentation.unet import UNet
from medseg.training.train import train
from tests.conftest import TINY

ENCODED = [*TINY, "task=diagnosis", "trainer.fraction=0.02", "data.encoder_features=4"]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_encode_of_tiles_equals_network_on_each(dimensions: int) -> None:
    torch.manual_seed(0)
    network = UNet(2, 3, dimensions=dimensions, width=4, depth=2).eval()
    patch = (16,) * dimensions
    image = np.random.default_rng(0).normal(size=(2, 24, 40, 24)).astype(np.float32)
    encoded = encode(network, [image], Tiling(patch, multiple=4, batch=3), torch.device("cpu"))
    padded = np.pad(image, [(0, 0), (0, 0 if dimensions == 2 else 8), (0, 8), (0, 8)])
    with torch.inference_mode():
        if dimensions == 2:
            tile = torch.from_numpy(padded[:, 7, 16:32, 16:32])[None]
            assert np.allclose(network.encode(tile)[-1][0], encoded[:, 7, 4:8, 4:8], atol=1e-5)
        else:
            # the last of the third batch; a norm's sums in 32 bit depend on how a batch lies in memory
            places = [(16, 0, 0), (16, 0, 16), (16, 16, 0)]
            tiles = [padded[:, z : z + 16, y : y + 16, x : x + 16] for z, y, x in places]
            expected = network.encode(torch.from_numpy(np.stack(tiles)))[-1]
            assert np.allclose(expected[2], encoded[:, 4:8, 4:8, 0:4], atol=1e-5)
    assert encoded.shape == (network.shape.widths()[-1], 24 if dimensions == 2 else 8, 12, 8)


def test_a_region_gets_the_mean_of_the_cells_it_covers(segmenter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = DeepFeatures(Segmenter.from_run(open_run(segmenter)), None)
    image = sitk.Image((40, 32, 6), sitk.sitkFloat32) - 500
    image.SetSpacing((8.0, 8.0, 5.0))
    cells = np.random.default_rng(1).normal(size=(encoder.width, 6, 6, 6)).astype(np.float32)
    monkeypatch.setattr(encoder, "model", type("Model", (), {"encode": lambda _self, _images: cells}))
    encoder.model = encoder.model()  # type: ignore[operator]
    monkeypatch.setattr(encoder.segmenter, "prepare", lambda images: images)
    regions = np.zeros((6, 32, 40), np.uint16)
    regions[2, 8:16, 16:24] = 1  # one cell of 8 pixels
    regions[4, 0:8, 0:12] = 2  # one cell and half of the next
    coded = sitk.GetImageFromArray(regions)
    coded.CopyInformation(image)
    first, two, none = encoder.pooled({"ct": image}, coded, 3)
    assert np.allclose(list(first.values()), cells[:, 2, 1, 2], atol=1e-6)
    assert np.allclose(list(two.values()), (2 * cells[:, 4, 0, 0] + cells[:, 4, 0, 1]) / 3, atol=1e-6)
    assert np.isnan(list(none.values())).all()


def test_projection_nearly_preserves_distances() -> None:
    from medseg.inference.encoder import _projection

    turn = _projection(256, 16)
    assert np.allclose(turn.T @ turn, np.eye(16))
    points = np.random.default_rng(2).normal(size=(40, 256))
    far = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(40, 1)]
    near = np.linalg.norm((points @ turn)[:, None] - (points @ turn)[None], axis=-1)[np.triu_indices(40, 1)]
    assert np.std(near / far) / np.mean(near / far) < 0.25


def test_the_regions_of_slices_are_the_steps_whatever_the_order_of_axes() -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(3).normal(size=(7, 9, 11)).astype(np.float32))
    for order in ("LPS", "LPI", "ASR", "SLP"):
        turned = sitk.DICOMOrient(image, order)
        regions = slices.step_regions(turned)
        back = sitk.GetArrayFromImage(sitk.DICOMOrient(regions, "LPS"))
        assert (back == np.arange(1, 8)[:, None, None]).all()


@pytest.mark.parametrize("module", [abcd, radial])
def test_step_regions_of_sectors_equal_profile(module: object) -> None:
    y, x = np.mgrid[:160, :160]
    inside = ((x - 80) / 50) ** 2 + ((y - 80) / 25) ** 2 <= 1
    picture = np.full((160, 160, 3), 200, np.uint8)
    picture[inside] = (120, 70, 40)
    picture[inside & (x > 80)] = (60, 30, 20)
    image = sitk.GetImageFromArray(picture, isVector=True)
    mask = sitk.GetImageFromArray(inside.astype(np.uint8))
    regions = sitk.GetArrayFromImage(module.step_regions(image, mask))  # type: ignore[attr-defined]
    assert ((regions > 0) == inside).all()
    assert set(np.unique(regions[inside])) == set(range(1, 9))
    # the mean way from the centre to the outline, sector by sector: as the steps' own radius says
    steps = module.step_features(image, mask, {"lesion": 1})  # type: ignore[attr-defined]
    outline = inside & ~ndimage.binary_erosion(inside)
    reach = [np.hypot(*(np.argwhere(outline & (regions == k)) - 80).T).mean() for k in range(1, 9)]
    assert np.corrcoef(reach, steps["lesion.radius"])[0, 1] > 0.98


def test_classifier_with_encoder_needs_no_segmenter_later(breathing: Path, segmenter: Path, tmp_path: Path) -> None:
    source = tmp_path / "segmenter"
    shutil.copytree(segmenter, source)
    settings = [*ENCODED, f"data.encoder={source}", f"data.root={breathing}"]
    held = {row["patient"] for row in pd.read_csv(source / "split.csv").to_dict("records") if row["split"] == "test"}
    train(compose([*settings, f"run_dir={tmp_path / 'run'}"]))  # the same share and seed part the same patients
    assert held == set(pd.read_csv(tmp_path / "run" / "predictions.csv")["patient"])
    shutil.rmtree(source)
    features = pd.read_csv(tmp_path / "run" / "features.csv")
    names = [name for name in features if name.startswith("encoder.")]
    assert names == [f"encoder.pooled_{k:02d}" for k in range(4)]
    assert (features[names].std() > 0).all()
    steps = pd.read_csv(tmp_path / "run" / "features_steps.csv")
    assert steps[names].notna().all(axis=None)
    assert (steps.groupby(["case", "frame"])[names].std() > 0).all(axis=None)
    diagnose_folder(DiagnoseRequest(breathing, tmp_path / "out.csv"), open_run(tmp_path / "run"))
    again = pd.read_csv(tmp_path / "out_features.csv").set_index(["case", "frame"])[names]
    assert np.allclose(again, features.set_index(["case", "frame"])[names].loc[again.index], atol=1e-4)
    packed = export_model(open_run(tmp_path / "run"), tmp_path / "run.zip")
    content = packed.read_bytes()
    assert not [patient for patient in set(features["patient"]) if patient.encode() in content]
    diagnose_folder(DiagnoseRequest(breathing, tmp_path / "packed.csv"), open_run(packed))
    for end in (".csv", "_features.csv"):
        assert (tmp_path / f"packed{end}").read_bytes() == (tmp_path / f"out{end}").read_bytes()


def test_load_encoder_of_package_is_refused(breathing: Path, segmenter: Path, tmp_path: Path) -> None:
    packed = export_model(open_run(segmenter), tmp_path / "segmenter.zip")
    with pytest.raises(ConfigError, match="use the run folder itself"):
        train(compose([*ENCODED, f"data.encoder={packed}", f"data.root={breathing}", f"run_dir={tmp_path / 'run'}"]))


def test_load_encoder_trained_on_held_out_patient_is_refused(breathing: Path, segmenter: Path, tmp_path: Path) -> None:
    train_patients = pd.read_csv(segmenter / "split.csv").query("split == 'train'")["patient"]
    refused = 0
    for fold in range(2):
        settings = [*ENCODED, f"data.encoder={segmenter}", f"data.root={breathing}", f"run_dir={tmp_path / str(fold)}"]
        with pytest.raises(ConfigError, match="was trained on") as error:
            train(compose([*settings, "data.n_folds=2", f"data.fold={fold}"]))
        refused += any(str(patient) in str(error.value) for patient in train_patients)
    assert refused == 2
