"""What is kept of a training, how it goes on for longer, and how it ends by the clock, a NaN or a wrong setting."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medseg.config.compose import compose
from medseg.config.load import to_yaml
from medseg.errors import ConfigError, MedsegError, ModelError
from medseg.runs.run import Run
from medseg.segmentation.lightning_module import SegmentationModule
from medseg.training.callbacks import AveragedWeights
from medseg.training.checkpointing import AtomicCheckpointIO, Checkpoints, DeferredInterrupts, TimeBudget, read_progress
from medseg.training.train import train
from tests.conftest import TINY, TINY_UNET, posix
from tests.training.test_train import read_csv

Settings = Callable[..., list[str]]


@pytest.fixture
def settings(cohort: Path, tmp_path: Path) -> Settings:
    def make(name: str, *more: str) -> list[str]:
        places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / name}"]
        return [*TINY, *TINY_UNET, *places, "segmenter.max_samples=600", *more]

    return make


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, file)

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medseg.utils.files.os.fsync", full)
    with pytest.raises(MedsegError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, file)
    assert torch.load(file, weights_only=True) == {"step": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_a_damaged_checkpoint_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert read_progress(run).step == 0
    run.checkpoint.parent.mkdir()
    run.checkpoint.write_bytes(b"PK no checkpoint")
    with pytest.raises(ModelError, match=r"last.ckpt: cannot be read .* remove it"):
        read_progress(run)


def test_time_budget_counts_seconds_before_resume() -> None:
    clock = TimeBudget(10, before=9.0)
    assert clock.used_fraction() == pytest.approx(0.9)
    assert not clock.is_up()
    assert clock.is_up(ahead=1.0)
    assert TimeBudget(None, before=9.0).used_fraction() == 0
    assert not TimeBudget(None, before=9.0).is_up(1e9)


def test_a_finished_training_is_extended_in_its_folder(settings: Settings, tmp_path: Path) -> None:
    more = ["trainer.checkpoint_every_n_steps=2", "trainer.fraction=1"]
    run = train(compose(settings("run", "segmenter.max_samples=40", *more))).run
    first, before = read_csv(run.file("history.csv")), load_file(run.file("model.safetensors"))
    train(compose([f"resume={run.path}", "segmenter.max_samples=120"]))
    history = read_csv(run.file("history.csv"))
    assert history[: len(first)] == first
    assert [int(row["samples"]) for row in history if row["train_loss"]][-1] == 120
    rates = [float(row["lr"]) for row in history]
    assert max(rates[len(first) :]) > rates[len(first) - 1]  # the longer schedule is entered where it is not over
    assert rates[-1] < 1e-4
    assert not all(torch.equal(before[name], value) for name, value in load_file(run.file("model.safetensors")).items())
    assert "max_samples: 120" in run.file("config.yaml").read_text()
    assert "resume: null" in run.file("config.yaml").read_text()
    with pytest.raises(ConfigError, match=r"was trained on 120 samples, more than the 40"):
        train(compose([f"resume={run.path}", "segmenter.max_samples=40"]))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["seed=99"], r"seed=99 \(the run: 1\)"),
        (["segmenter.batch_size=2", "segmenter.max_samples=9000"], r"segmenter.batch_size=2 \(the run: 4\)"),
        (["trainer=default"], r"trainer.n_validations=10 \(the run: 1\)"),
        (["~augment.transforms.Affine.p"], r"augment.transforms.Affine.p"),
    ],
)
def test_a_resume_refuses_other_settings_than_the_budget(segmenter: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        compose([f"resume={segmenter}", *overrides])
    assert "segmenter.max_samples=" not in str(error.value)
    assert "new run_dir" in str(error.value)
    fine = ["seed=1", "trainer.max_time=00:00:01:00", "compute.num_workers=1", "logger=csv"]
    assert compose([f"resume={segmenter}", *fine]).compute.num_workers == 1


def test_a_finished_stack_cannot_be_extended(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        to_yaml(compose(["organ=skin", "task=diagnosis", "classifier.max_samples=10"]))
    )
    with pytest.raises(ConfigError, match="all folds of a stack have one schedule"):
        compose([f"resume={tmp_path}", "classifier.max_samples=20"])


def test_resume_after_early_stopping_trains_nothing(breathing: Path, tmp_path: Path) -> None:
    still = ["classifier.optimizer.lr=0.0", "classifier.early_stopping.patience=2"]  # the held-out loss cannot improve
    words = [*TINY, *still, "task=diagnosis", f"data.root={breathing}", "trainer.fraction=0.2"]
    run = train(compose([*words, f"run_dir={tmp_path / 'run'}"])).run
    done, before = read_progress(run), run.file("history.csv").read_text()
    assert done.early
    assert done.step < 3840 * 0.2 / 32
    train(compose([f"resume={run.path}"]))
    assert read_progress(run) == done
    assert run.file("history.csv").read_text() == before


def test_time_budget_sums_over_resumes(settings: Settings, tmp_path: Path) -> None:
    bounded = settings("run", "segmenter.max_samples=100000000", "trainer.max_time=00:00:00:02")
    run = train(compose(bounded)).run
    done, rows = read_progress(run), read_csv(run.file("history.csv"))
    assert 1.5 < done.seconds < 4
    assert float(rows[-1]["lr"]) < 0.002  # of 0.01
    started = time.monotonic()
    train(compose([f"resume={run.path}"]))
    assert read_progress(run) == done  # nothing is left of the time
    assert read_csv(run.file("history.csv")) == rows
    train(compose([f"resume={run.path}", "trainer.max_time=00:00:00:03"]))
    assert 2.5 < read_progress(run).seconds < 5
    assert read_progress(run).step > done.step
    assert time.monotonic() - started < 30


def test_non_finite_loss_names_the_batch_and_keeps_weights(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = SegmentationModule.training_step

    def spoilt(self: SegmentationModule, batch: Any, index: int) -> Any:
        loss = step(self, batch, index)
        return loss * torch.nan if self.trainer.global_step == 5 else loss

    monkeypatch.setattr(SegmentationModule, "training_step", spoilt)
    with pytest.raises(MedsegError, match=r"nan at step 6 .* The batch has lung00\d at z y x \d") as error:
        train(compose(settings("run", "segmenter.max_samples=2000", "trainer.checkpoint_every_n_steps=2")))
    assert error.value.code == "loss-not-finite"
    run = Run(tmp_path / "run")
    assert str(run.checkpoint) in str(error.value)
    content = torch.load(run.checkpoint, weights_only=True)
    assert read_progress(run).step == 4
    assert all(bool(torch.isfinite(value).all()) for value in content["current_model_state"].values())


def test_non_finite_weights_name_the_previous_batch(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(self: SegmentationModule, *_args: object) -> None:
        if self.trainer.global_step == 3:
            next(self.parameters()).data.fill_(torch.inf)

    monkeypatch.setattr(SegmentationModule, "on_train_batch_start", spoil)
    with pytest.raises(MedsegError, match="previous batch was not finite; it has lung"):
        train(compose(settings("run", "segmenter.max_samples=2000")))


def test_training_with_workers_gives_equal_weights(settings: Settings, tmp_path: Path) -> None:
    more = ["segmenter.network.dropout=0.2", "trainer.checkpoint_every_n_steps=1"]
    for name, workers in (("none", 0), ("one", 1), ("again", 1)):
        train(compose(settings(name, *more, f"compute.num_workers={workers}")))
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("none", "one", "again")]
    assert all(torch.equal(weights[0][key], other[key]) for other in weights[1:] for key in other)


def test_a_training_with_workers_resumes_too(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["segmenter.max_samples=1000", "trainer.checkpoint_every_n_steps=2", "compute.num_workers=1"]
    train(compose(settings("whole", *more)))
    step = SegmentationModule.training_step

    def stop(self: SegmentationModule, batch: Any, index: int) -> Any:
        if self.trainer.global_step == 3:
            raise SystemExit(130)
        return step(self, batch, index)

    monkeypatch.setattr(SegmentationModule, "training_step", stop)
    with pytest.raises(SystemExit):
        train(compose(settings("cut", *more)))
    monkeypatch.undo()
    train(compose([f"resume={tmp_path / 'cut'}"]))
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    manifest = json.loads((tmp_path / "cut" / "manifest.json").read_text())
    assert manifest["machine"]["threads"] == "1"


def test_fit_out_of_gpu_memory_says_what_to_do(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(SegmentationModule, "training_step", full)
    with pytest.raises(MedsegError, match=r"does not fit into the GPU's free memory.*segmenter.batch_size") as error:
        train(compose(settings("run", "segmenter.max_samples=8", "trainer.fraction=1")))
    assert error.value.code == "gpu-memory"


def test_deferred_interrupts_keep_the_first_signal_and_end_at_the_second(caplog: pytest.LogCaptureFixture) -> None:
    before = signal.getsignal(signal.SIGINT)
    with DeferredInterrupts() as interrupts:
        assert not interrupts.requested
        signal.raise_signal(signal.SIGINT)
        assert interrupts.requested
        with pytest.raises(SystemExit) as end:
            signal.raise_signal(signal.SIGTERM)
        assert end.value.code == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert caplog.text.count("stopping after this step") == 1


@posix
def test_sigterm_between_two_steps_keeps_the_next_one(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = Checkpoints.on_train_batch_end

    def then_signalled(self: Checkpoints, trainer: Any, *rest: Any) -> None:
        checked(self, trainer, *rest)
        if trainer.global_step == 3:  # the step was asked about already
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Checkpoints, "on_train_batch_end", then_signalled)
    words = settings("run", "trainer.fraction=1.0", "trainer.n_validations=0")
    with pytest.raises(SystemExit) as ended:
        train(compose([*words, "trainer.checkpoint_every_n_steps=100000"]))
    assert ended.value.code == 130
    run = next(word.split("=")[1] for word in words if word.startswith("run_dir="))
    assert read_progress(Run(Path(run))).step == 4


class Hostile:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_a_hostile_checkpoint_is_refused_and_does_not_run(settings: Settings, tmp_path: Path) -> None:
    run = train(compose(settings("run", "segmenter.max_samples=40"))).run
    marker = tmp_path / "pwned"
    content = torch.load(run.checkpoint, weights_only=True)
    torch.save({**content, "evil": Hostile(marker)}, run.checkpoint)
    with pytest.raises(ModelError, match=r"last\.ckpt: cannot be read"):
        train(compose([f"resume={run.path}", "segmenter.max_samples=80"]))
    assert not marker.exists()


def test_averaged_weights_follow_the_published_warm_up() -> None:
    """After n steps the mean keeps min(decay, (1 + n) / (10 + n)) of itself: .1, then 2/11 …, at last the decay."""
    average = AveragedWeights(0.9, torch.device("cpu"))._kwargs["avg_fn"]
    mean, now = torch.tensor([0.0]), torch.tensor([1.0])
    assert average(mean, now, 0).item() == pytest.approx(0.9)
    assert average(mean, now, 1).item() == pytest.approx(9 / 11)
    assert average(mean, now, 1000).item() == pytest.approx(0.1)
