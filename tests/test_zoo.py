"""Whatever lies in a folder: a named error or a right answer for each file, and no end of the batch."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.commands.explain import CODES
from medseg.config.compose import compose
from medseg.datasets.phantoms.skin import make_cohort
from medseg.io.geometry import grid_difference
from medseg.io.image import printable, read_image, read_mask
from medseg.training.train import train
from tests.conftest import ROOT
from tests.zoo import ZOO, make_zoo
from tests.zoo.kind import ANY, LUNGS, PLAIN, Specimen

Rows = dict[str, dict[str, str]]
LIMIT = 300  # seconds for one batch; on two quiet cores it takes ten
FULL = [False, pytest.param(True, marks=pytest.mark.torture)]
TRUTH = {"pictures": PLAIN, "volumes": LUNGS}


@pytest.fixture(scope="module", params=FULL, ids=["quick", "full"])
def zoo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("zoo")
    make_zoo(root, slow=request.param)
    return root


@pytest.fixture(scope="module")
def models(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A segmenter without training for pictures, one for volumes."""
    folder = tmp_path_factory.mktemp("models")
    make_cohort(folder / "skin", patients=6, seed=7, size="tiny")
    for organ, data in {"skin": folder / "skin", "lung": cohort}.items():
        words = [f"organ={organ}", "segmenter=otsu", f"data.root={data}", f"data.cache={folder / 'cache'}"]
        train(
            compose([*words, f"run_dir={folder / organ / 'run'}", "compute.accelerator=cpu", "compute.num_threads=1"])
        )
    return {"pictures": folder / "skin" / "run", "volumes": folder / "lung" / "run"}


def run(*words: object, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, so that a crash or a hang is seen and named."""
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, timeout=LIMIT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def there(zoo: Path, kind: str) -> list[Specimen]:
    return [specimen for specimen in ZOO[kind] if os.path.lexists(zoo / kind / specimen.name)]


def test_each_name_stands_once_and_each_code_is_explained() -> None:
    for specimens in ZOO.values():
        assert max(Counter(specimen.name for specimen in specimens).values()) == 1
        assert {code for s in specimens for code in (s.code, s.refused)} - {"", ANY} <= set(CODES)
    assert sum(map(len, ZOO.values())) >= 300


def test_reading_gives_a_right_image_or_a_named_error(zoo: Path, tmp_path: Path) -> None:
    done = run("-m", "tests.zoo", zoo, "--read")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = [specimen for kind in ZOO for specimen in there(zoo, kind)]
    assert [row["name"] for row in rows] == [specimen.name for specimen in wanted], done.stderr[-2000:]
    for row, specimen in zip(rows, wanted, strict=True):
        code, message = row["code"], row["message"]
        if specimen.code == ANY:
            assert code == "" or code in CODES, row
        else:
            assert code == specimen.code, row
        assert not (code == "" and message), row
        if code:
            assert printable(Path(specimen.name).parts[0]) in message, row
            assert "\n" not in message or code in ("dicom-several-series", "dicom-localizer"), row
    assert done.returncode == 0
    assert not done.stderr, done.stderr


@pytest.mark.parametrize("kind", ZOO)
def test_a_batch_with_every_specimen_loses_none(
    kind: str,
    zoo: Path,
    models: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    out = tmp_path / "out"
    words = ["segment", zoo / kind, out, "--model", models[kind]]
    done = run("-c", "from medseg.cli.app import main; main()", *words)
    assert done.returncode == 3, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    with (out / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows: Rows = {row["input"]: row for row in csv.DictReader(file)}
    for specimen in there(zoo, kind):
        if not specimen.alone:
            judge(specimen, zoo / kind / specimen.name, rows, TRUTH[kind])
    outcomes = Counter(row["code"] or row["status"] for row in rows.values())
    if request.node.callspec.params["zoo"]:
        with capsys.disabled():
            lines = [f"{count:5} {what}" for what, count in outcomes.most_common()]
            sys.stdout.write("\n".join(["", f"{len(rows):5} {kind} in the zoo", *lines, ""]))


def judge(specimen: Specimen, path: Path, rows: Rows, truth: Any) -> None:
    """One line of the ledger, and the mask where there is one."""
    row = rows[str(path).encode(errors="backslashreplace").decode()]
    wanted, found = specimen.code or specimen.refused, row["code"] if row["status"] == "failed" else ""
    assert found == wanted or wanted == ANY, row
    assert found != "case-error", row
    if found:
        assert printable(Path(specimen.name).name) in row["message"] or str(path) in row["message"], row
        return
    mask = read_mask(Path(row["output"]))
    assert grid_difference(mask, read_image(path)) is None, row
    labels = sitk.GetArrayFromImage(mask)
    if specimen.mask == "empty":
        assert not labels.any(), row
    if specimen.mask == "usual" and specimen.code != ANY:
        for label in np.unique(truth)[np.unique(truth) > 0]:
            a, b = labels == label, np.broadcast_to(truth, labels.shape) == label
            assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.85, row


@pytest.mark.torture
@pytest.mark.parametrize(("kind", "organ"), [("pictures", "skin"), ("volumes", "lung")])
def test_a_check_of_the_folder_names_what_is_broken(kind: str, organ: str, zoo: Path, tmp_path: Path) -> None:
    words = ["data", "check", zoo / kind, f"organ={organ}"]
    done = run("-c", "from medseg.cli.app import main; main()", *words, folder=tmp_path)
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert done.returncode == 3, done.stderr[-3000:]
    for specimen in there(zoo, kind):
        if specimen.code not in ("", ANY) and not specimen.alone:
            assert printable(specimen.name) in done.stderr, specimen.name


def test_a_folder_that_may_not_be_opened_is_a_case_and_not_a_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, medseg: Callable[..., Any], models: dict[str, Path]
) -> None:
    """Root may open everything: the system's refusal is made."""
    closed = tmp_path / "in" / "closed"
    closed.mkdir(parents=True)
    sitk.WriteImage(sitk.Image(8, 8, sitk.sitkUInt8), str(tmp_path / "in" / "locked.png"))
    plain_scan, plain_open = os.scandir, Path.open

    def scan(path: Any = ".") -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return plain_scan(path)

    def opened(self: Path, *words: Any, **more: Any) -> Any:
        if self.name == "locked.png" and "in" in self.parts:
            raise PermissionError(13, "Permission denied", str(self))
        return plain_open(self, *words, **more)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(os, "listdir", scan)  # what Path.iterdir calls
    monkeypatch.setattr(Path, "open", opened)
    result = medseg("segment", tmp_path / "in", tmp_path / "out", "--model", models["pictures"], "--json")
    summary = json.loads(result.out)
    assert result.status == 1
    assert {entry["code"] for entry in summary["entries"]} == {"image-unreadable"}
    assert result.err.count("Permission denied") == 2
    assert len(summary["entries"]) == 2
