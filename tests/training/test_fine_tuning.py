"""What of a parent's weights a new network takes, and that nobody is judged whom the parent knows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medseg.config.compose import compose
from medseg.config.load import load
from medseg.errors import ConfigError
from medseg.segmentation.unet import UNet
from medseg.training.fine_tuning import matching_state
from medseg.training.train import train
from tests.conftest import TINY, TINY_UNET

LUNGS = ["background", "right_lung", "left_lung"]
SHORT = [*TINY, *TINY_UNET, "segmenter.max_samples=200", "trainer.fraction=0.04", "compute.num_threads=1"]


def network(channels: int = 1, outputs: int = 3, **shape: Any) -> UNet:
    torch.manual_seed(0)
    return UNet(channels, outputs, **({"width": 4, "depth": 2} | shape))


def test_matching_state_takes_outputs_by_label_name() -> None:
    parent = network().state_dict()
    own = network(outputs=4)
    labels = ["background", "heart", "left_lung", "right_lung"]
    state, skipped = matching_state(own, parent, labels, LUNGS)
    weight = state["heads.0.weight"]
    assert skipped == []
    assert torch.equal(weight[0], parent["heads.0.weight"][0])
    assert torch.equal(weight[2], parent["heads.0.weight"][2])
    assert torch.equal(weight[3], parent["heads.0.weight"][1])
    assert torch.equal(weight[1], own.state_dict()["heads.0.weight"][1])


def test_matching_state_without_a_shared_label_learns_the_outputs_anew() -> None:
    state, skipped = matching_state(network(), network().state_dict(), ["background", "a", "b"], LUNGS)
    assert skipped == ["heads.0"]
    assert not [name for name in state if name.startswith("heads.")]


def test_matching_state_folds_the_first_convolution_to_other_channels() -> None:
    parent, own = network(channels=3), network(channels=1)
    state, skipped = matching_state(own, parent.state_dict(), LUNGS, LUNGS)
    assert skipped == []
    own.load_state_dict(state)
    grey = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(own.eval()(grey), parent.eval()(grey.expand(-1, 3, -1, -1)), atol=1e-5)


def test_matching_state_of_another_width_names_what_is_learnt_from_nothing() -> None:
    state, skipped = matching_state(network(width=8), network().state_dict(), LUNGS, LUNGS)
    assert "encoder.first.layers.0" in skipped
    assert not [name for name in state if "encoder.first" in name]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A short run, and the cache with its phantoms."""
    folder = tmp_path_factory.mktemp("parent")
    train(compose(["organ=lung", *SHORT, f"data.cache={folder / 'cache'}", f"run_dir={folder / 'run'}"]))
    return folder / "run", folder / "cache"


def test_train_from_a_parent_with_a_frozen_encoder_keeps_it(
    medseg: Callable[..., Any], parent: tuple[Path, Path], tmp_path: Path
) -> None:
    run, cache = parent
    words = ["organ=lung", *SHORT, f"data.cache={cache}", f"run_dir={tmp_path / 'child'}", f"init_from={run}"]
    result = medseg("train", *words, "segmenter.network.freeze_encoder=true", "segmenter.ema_decay=0")
    assert result.status == 0, result.err
    before, after = (load_file(folder / "model.safetensors") for folder in (run, tmp_path / "child"))
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("encoder."))
    assert not torch.equal(before["heads.0.weight"], after["heads.0.weight"])
    assert "Fine-tuned from run" in (tmp_path / "child" / "card.md").read_text()


def test_train_from_a_parent_that_knows_a_held_out_case_is_refused(parent: tuple[Path, Path], tmp_path: Path) -> None:
    run, cache = parent
    words = ["organ=lung", *SHORT, f"data.cache={cache}", f"run_dir={tmp_path / 'child'}", f"init_from={run}"]
    with pytest.raises(ConfigError, match="which is held out here"):
        train(compose([*words, "data.n_folds=4", "data.fold=2"]))


def test_resolve_plan_of_a_run_takes_its_shape_and_geometry(parent: tuple[Path, Path], tmp_path: Path) -> None:
    run, cache = parent
    words = ["organ=lung", *TINY, "segmenter=auto", "segmenter.network.width=8", f"plan={run}", f"init_from={run}"]
    words += [
        "segmenter.max_samples=200",
        "trainer.fraction=0.04",
        f"data.cache={cache}",
        f"run_dir={tmp_path / 'child'}",
    ]
    child = train(compose(words)).run
    assert "Learnt from nothing" not in child.file("card.md").read_text()
    settings = load(child.file("config.yaml"))
    assert settings.organ.spacing_mm == [8, 8, None]
    assert settings.preprocess["resample"]["spacing"] == [8, 8, None]  # type: ignore[index]
    assert settings.unet().planned() == ((48, 48), 4, 2, 3)
