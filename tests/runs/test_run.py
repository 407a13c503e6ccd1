from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from medseg.errors import ConfigError, ModelError
from medseg.runs.run import Run, create, open_run
from medseg.utils.files import write_json


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = create(str(tmp_path / "run"), "any")
    made.file("config.yaml").write_text("task: segmentation\n")
    write_json(made.file("fingerprint.json"), {"synthetic": True})
    made.save_weights({"a": torch.arange(3.0)})
    made.seal(datetime.now(UTC))
    return made


def test_open_run_of_a_sealed_run_has_its_weights(run: Run) -> None:
    opened = open_run(run.path)
    assert opened.load_weights()["a"].tolist() == [0, 1, 2]
    assert opened.synthetic


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml"])
def test_open_run_flipped_bit_or_missing_file_raises(run: Run, name: str) -> None:
    content = bytearray(run.file(name).read_bytes())
    content[-1] ^= 1
    run.file(name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: was changed"):
        open_run(run.path)
    run.file(name).unlink()
    with pytest.raises(ModelError, match=f"{name}: missing"):
        open_run(run.path)


def test_open_run_unfinished_missing_or_foreign_raises_with_remedy(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such run folder"):
        open_run(tmp_path / "nowhere")
    write_json(run.file("manifest.json"), {"schema": 99})
    with pytest.raises(ModelError, match="schema 99"):
        open_run(run.path)
    run.file("manifest.json").unlink()
    with pytest.raises(ModelError, match="resume="):
        open_run(run.path)


def test_load_weights_not_safetensors_raises(run: Run) -> None:
    run.file("model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ModelError, match="cannot be read"):
        run.load_weights()


def test_create_numbers_runs_and_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.chdir(tmp_path)
    assert [str(create(None, "x").path) for _ in range(3)] == ["runs/x/1", "runs/x/2", "runs/x/3"]
    with pytest.raises(ConfigError, match="resume="):
        create(str(run.path), "x")
