"""On a GPU: trainings, masks and diagnoses are what the processor makes of the same; memory that runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch

from medseg.config.compose import compose
from medseg.errors import MedsegError
from medseg.runs.run import Run
from medseg.training.train import train
from medseg.utils.devices import describe_machine
from tests.conftest import TINY_UNET, Result

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
Command = Callable[..., Result]
CUDA = ["trainer=quick", "compute.accelerator=cuda"]


@pytest.fixture
def bounded() -> Iterator[Callable[[float], None]]:
    """Bounds the GPU's memory for this process, in bytes beside what it holds."""

    def bound(more: float) -> None:
        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + more) / whole)

    yield bound
    torch.cuda.set_per_process_memory_fraction(1.0)


def trained(cohort: Path, folder: Path, *more: str) -> Run:
    places = [f"data.root={cohort}", f"data.cache={folder.parent / 'cache'}", f"run_dir={folder}"]
    return train(compose(["organ=lung", *CUDA, *TINY_UNET, "segmenter.max_samples=30000", *places, *more])).run


def test_masks_of_a_training_here_are_those_of_the_processor(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    run = trained(cohort, tmp_path / "run")
    assert run.read_json("manifest.json")["machine"]["device"].startswith("cuda")
    assert run.read_json("metrics.json")["labels"]["right_lung"]["dice"]["mean"] > 0.8
    images = cohort / "images"
    for device in ("cuda", "cpu"):
        command = ("segment", images, tmp_path / device, "--model", run.path, "--device", device, "-q")
        assert medseg(*command).status == 0
    masks = sorted(path.relative_to(tmp_path / "cpu") for path in (tmp_path / "cpu").rglob("*.nii.gz"))
    assert masks
    for name in masks:
        found = [sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / d / name))) for d in ("cuda", "cpu")]
        assert np.mean(found[0] == found[1]) > 0.999


@pytest.mark.parametrize("workers", ["0", "2", "auto"])
def test_who_prepares_batches_does_not_matter(cohort: Path, tmp_path: Path, workers: str) -> None:
    short = ["segmenter.max_samples=80", "trainer.fraction=1", "compute.precision=32"]
    histories = [
        pd.read_csv(trained(cohort, tmp_path / name, *short, f"compute.num_workers={count}").file("history.csv"))
        for name, count in (("one", "0"), ("other", workers))
    ]
    assert np.allclose(histories[0]["train_loss"].dropna(), histories[1]["train_loss"].dropna(), atol=1e-2)


@pytest.mark.parametrize("after", ["cuda", "cpu"])
def test_a_training_goes_on_here_or_on_the_processor(cohort: Path, tmp_path: Path, after: str) -> None:
    run = trained(cohort, tmp_path / "run", "segmenter.max_samples=40", "trainer.fraction=1")
    train(compose([f"resume={run.path}", "segmenter.max_samples=80", f"compute.accelerator={after}"]))
    history = pd.read_csv(run.file("history.csv"))
    assert history["samples"].max() == 80
    assert run.read_json("manifest.json")["machine"]["device"].startswith(after)


def test_volumes_with_all_that_a_network_can_have(cohort: Path, tmp_path: Path) -> None:
    network = ["dimensions=3", "deep_supervision=true", "residual=true", "strided=true", "dropout=0.1", "depth=2"]
    more = [
        "segmenter=unet3d",
        "organ.spacing_mm=[8,8,8]",
        "segmenter.patch_size=[32,32,16]",
        "segmenter.max_samples=40",
    ]
    words = [f"segmenter.network.{value}" for value in network]
    run = trained(cohort, tmp_path / "run", "trainer.fraction=1", *words, *more)
    assert np.isfinite(pd.read_csv(run.file("history.csv"))["train_loss"].dropna()).all()
    assert np.isfinite(run.read_json("metrics.json")["labels"]["right_lung"]["dice"]["mean"])


@pytest.mark.parametrize("more", [[], ["classifier=stacking"]])
def test_what_an_lstm_learnt_here_is_asked_on_the_processor(
    breathing: Path, tmp_path: Path, medseg: Command, more: list[str]
) -> None:
    words = ["organ=lung", *CUDA, "task=diagnosis", f"data.root={breathing}", "trainer.fraction=0.1", *more]
    run = train(compose([*words, f"run_dir={tmp_path / 'run'}"])).run
    assert run.read_json("manifest.json")["machine"]["device"].startswith("cuda")
    out = tmp_path / "diagnosis.csv"
    images, masks = breathing / "images", breathing / "masks"
    assert medseg("diagnose", images, out, "--model", run.path, "--masks", masks, "-q").status == 0
    assert pd.read_csv(out)["probability"].between(0, 1).all()


def test_too_little_memory_for_all_tiles_takes_fewer(segmenter: Path, bounded: Callable[[float], None]) -> None:
    from medseg.inference.segmenter import Segmenter

    model = Segmenter.from_run(Run(segmenter), "cuda")
    image = sitk.Image((480, 480, 24), sitk.sitkFloat32) - 700.0
    image.SetSpacing((0.8, 0.8, 5.0))
    plain = model({"ct": image})
    bounded(40e6)
    few = model({"ct": image})
    assert np.mean(sitk.GetArrayFromImage(few) == sitk.GetArrayFromImage(plain)) > 0.999


def test_a_step_that_does_not_fit_names_the_way_out(
    cohort: Path, tmp_path: Path, bounded: Callable[[float], None]
) -> None:
    bounded(20e6)
    with pytest.raises(MedsegError, match=r"does not fit into the GPU's free memory.*segmenter.batch_size") as error:
        trained(cohort, tmp_path / "run", "segmenter.network.width=64", "segmenter.max_samples=8", "trainer.fraction=1")
    assert error.value.code == "gpu-memory"


def test_a_plan_counts_the_gpus_memory_and_time(medseg: Command, cohort: Path, tmp_path: Path) -> None:
    result = medseg("plan", "organ=lung", f"data.root={cohort}", "compute.accelerator=cuda", "--out", tmp_path / "plan")
    assert result.status == 0
    assert "(cuda)" in (tmp_path / "plan" / "plan.yaml").read_text()
    assert describe_machine("cuda", "auto")["precision"] in ("bf16-mixed", "32-true")
    assert "the CPU is used" not in medseg("doctor").out
