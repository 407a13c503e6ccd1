"""Deep features by region: the right places, the same numbers again, no patient that the encoder learnt from."""

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
from medseg.inference.image_encoders import ImageNetEncoder, UNetEncoder
from medseg.inference.region_pooling import Encoding, projection
from medseg.inference.segmenter import Segmenter
from medseg.runs.run import open_run
from medseg.segmentation.sliding_window import Tiling, encode
from medseg.segmentation.unet import UNet
from medseg.training.train import train
from tests.conftest import TINY

ENCODED = [*TINY, "task=diagnosis", "trainer.fraction=0.02", "data.encoder_features=4"]
ENCODED += ["data.encoder_step_features=3"]


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
    encoder = UNetEncoder(Segmenter.from_run(open_run(segmenter)))
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
    first, two, none = encoder.encode({"ct": image}).means(coded, 3)
    assert np.allclose(first, cells[:, 2, 1, 2], atol=1e-6)
    assert np.allclose(two, (2 * cells[:, 4, 0, 0] + cells[:, 4, 0, 1]) / 3, atol=1e-6)
    assert np.isnan(none).all()


def test_projection_nearly_preserves_distances() -> None:
    turn = projection(256, 16)
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
    names = [name for name in features if name.startswith("deep.")]
    assert names == [f"deep.{region}_{k:03d}" for region in ("structure", "rim", "image") for k in range(4)]
    assert (features[names].std() > 0).all()
    steps = pd.read_csv(tmp_path / "run" / "features_steps.csv")
    step_names = [f"deep.step_{k:03d}" for k in range(3)]
    assert steps[step_names].notna().all(axis=None)
    assert (steps.groupby(["case", "frame"])[step_names].std() > 0).all(axis=None)
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


def constant_maps(monkeypatch: pytest.MonkeyPatch, encoder: ImageNetEncoder) -> None:
    """Cells whose channel 0 is their column, channel 1 their row, channel 2 their slice."""

    def encode(image: sitk.Image, limits: tuple[float, float]) -> Encoding:
        grid = encoder.resize(image)
        size = (*grid.GetSize(), 1)[:3]
        z, y, x = np.mgrid[: size[2], : -(-size[1] // 32), : -(-size[0] // 32)].astype(np.float32)
        return Encoding(np.stack([x, y, z, *[0 * x] * (encoder.width - 3)]), grid, (1, 32, 32))

    monkeypatch.setattr(encoder, "encode", encode)


def test_deep_features_of_frame_are_means_of_structure_rim_and_image(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ImageNetEncoder(256, device="cpu")
    constant_maps(monkeypatch, encoder)
    features = DeepFeatures(encoder)
    assert len(features.names()) == 3 * 320
    assert features.names()[::320] == ["deep.structure_000", "deep.rim_000", "deep.image_000"]
    assert {*features.units()} == {name.split(".")[1] for name in [*features.names(), *features.step_names()]}
    image, mask = sitk.Image((128, 64), sitk.sitkUInt8), np.zeros((64, 128), np.uint8)
    mask[16:32, 64:80] = 1  # of 16 pixels a cell: column 4, row 1
    found = features.encode_case(None, image, None, False).of_frame(0, sitk.GetImageFromArray(mask))
    assert (found["deep.structure_000"], found["deep.structure_001"]) == (4, 1)
    assert (found["deep.image_000"], found["deep.image_001"]) == (3.5, 1.5)  # 8 × 4 cells
    assert found["deep.rim_000"] == pytest.approx(4, abs=0.05)  # around the structure, as far to the left as right
    assert found["deep.rim_001"] == pytest.approx(1, abs=0.05)
    assert found["deep.rim_002"] == 0
    empty = features.encode_case(None, image, None, False).of_frame(0, sitk.Image((128, 64), sitk.sitkUInt8))
    none = features.encode_case(None, image, None, False).of_frame(0, None)
    for row in (empty, none):
        assert [name for name, value in row.items() if np.isnan(value)] == features.names()[: 2 * 320]
        assert row["deep.image_000"] == 3.5


def test_deep_features_of_slices_are_of_each_slice_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ImageNetEncoder(64, device="cpu")
    constant_maps(monkeypatch, encoder)
    mask = np.zeros((3, 64, 64), np.uint8)
    mask[0, :32, :32] = 1
    mask[2, 40:60, 40:60] = 1
    case = DeepFeatures(encoder).encode_case(
        None, sitk.Image((64, 64, 3), sitk.sitkFloat32), sitk.GetImageFromArray(mask), True
    )
    rows = pd.DataFrame([case.of_frame(k, None) for k in range(3)])
    assert rows["deep.image_002"].tolist() == [0, 1, 2]
    assert np.array_equal(rows["deep.structure_002"], [0, np.nan, 2], equal_nan=True)
    assert np.array_equal(rows["deep.structure_000"], [0, np.nan, 1], equal_nan=True)


def test_deep_features_have_five_significant_digits_and_are_the_same_twice() -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(4).integers(0, 256, (70, 90)).astype(np.uint8))
    rows = []
    for _ in range(2):
        features = DeepFeatures(ImageNetEncoder(96, device="cpu"), ["image"], 7)
        rows.append(features.encode_case(None, image, None, False).of_frame(0, None))
    assert rows[0] == rows[1]
    assert [*rows[0]] == [f"deep.image_{k:03d}" for k in range(7)]
    assert all(value == float(f"{value:.5g}") for value in rows[0].values())


def test_slices_of_a_sequence_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ImageNetEncoder(64, time_axis=3, device="cpu")
    image = sitk.JoinSeries([sitk.Image((8, 8, 2), sitk.sitkUInt8)] * 3)
    with pytest.raises(ConfigError, match="slices of a sequence"):
        DeepFeatures(encoder).encode_case(None, image, None, True)
