"""What tests share: a way to run the command line in this process, and where real data lie."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import SimpleITK as sitk

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared" / "data"


posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals, limits, pipes or names of files")


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def medseg(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`medseg("train", "organ=lung")` → exit status and what was printed, the messages without boxes and line ends."""
    from medseg.cli.app import main
    from medseg.utils.console import be_quiet

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["medseg", *map(str, arguments)])
        be_quiet(False)
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return Result(status, captured.out, " ".join(captured.err.replace("│", " ").split()))

    return run


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real data; a test that asks for it is skipped where it is not there."""
    if not REAL.is_dir():
        pytest.skip(f"no real data in {REAL}")
    return REAL


TINY = ["organ=lung", "trainer=quick", "compute=cpu", "compute.num_threads=1"]
TINY_UNET = ["organ.spacing_mm=[8,8,null]", "segmenter.network.width=8", "segmenter.network.depth=3"]
TINY_UNET += ["segmenter.patch_size=[48,48]", "segmenter.batch_size=4", "segmenter.optimizer.lr=0.01"]


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tiny synthetic CTs with masks."""
    from medseg.datasets.phantoms.lung import make_cohort

    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, patients=5, seed=7, frames=1, size="tiny")
    return folder


@pytest.fixture(scope="session")
def breathing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tiny synthetic 4DCTs of eight frames with masks and states."""
    from medseg.datasets.phantoms.lung import make_cohort

    folder = tmp_path_factory.mktemp("breathing")
    make_cohort(folder, patients=5, seed=8, frames=8, size="tiny")
    return folder


@pytest.fixture(scope="session")
def segmenter(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a tiny U-Net that finds the lungs of `cohort` roughly."""
    from medseg.config.compose import compose
    from medseg.training.train import train

    folder = tmp_path_factory.mktemp("segmenter")
    places = [f"data.root={cohort}", f"data.cache={folder / 'cache'}", f"run_dir={folder / 'run'}"]
    train(compose([*TINY, *TINY_UNET, *places, "segmenter.max_samples=30000"]))
    return folder / "run"


@pytest.fixture(scope="session")
def classifier_run(breathing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a small LSTM trained on `breathing`."""
    from medseg.config.compose import compose
    from medseg.training.train import train

    folder = tmp_path_factory.mktemp("diagnoser") / "run"
    train(compose([*TINY, "task=diagnosis", f"data.root={breathing}", f"run_dir={folder}", "trainer.fraction=0.1"]))
    return folder


@pytest.fixture(scope="session")
def rule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenter without training: fast to start, and its masks are not empty."""
    from medseg.config.compose import compose
    from medseg.training.train import train

    folder = tmp_path_factory.mktemp("rule")
    words = ["organ=skin", "segmenter=otsu", "data.phantom_patients=4", f"data.cache={folder / 'cache'}"]
    train(compose([*words, f"run_dir={folder / 'run'}", "compute.accelerator=cpu", "compute.num_threads=1"]))
    return folder / "run"


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases that were measured, in order."""
    from medseg.inference.extractor import Extractor

    names: list[str] = []
    call = Extractor.__call__

    def counted(self: Extractor, rows: Any, *rest: Any) -> Any:
        names.append(rows[0].id)
        return call(self, rows, *rest)

    monkeypatch.setattr(Extractor, "__call__", counted)
    return names


def picture(number: int) -> tuple[sitk.Image, sitk.Image]:
    """A grey photograph of a dark disc, and its mask."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:64, :64]
    inside = np.hypot(y - 32, x - 32) < rng.uniform(8, 16)
    grey = (200 - 120 * inside + rng.normal(0, 5, (64, 64))).clip(0, 255).astype(np.uint8)
    return sitk.GetImageFromArray(grey), sitk.GetImageFromArray(inside.astype(np.uint8))


def tree(folder: Path) -> dict[str, str]:
    """Hash of each PNG below a folder."""
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.png")}
