"""The scripts of the accuracy page: every run they name composes, and what is not measured again stays."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from medseg.config.compose import compose

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_every_run_of_every_experiment_composes(tmp_path: Path) -> None:
    accuracy, composed = script("accuracy"), 0
    for experiment in accuracy.EXPERIMENTS:
        runs = accuracy.variants(experiment, ablations=True)
        for settings in [runs[name] for name in runs if name.split(",")[0] not in accuracy.CLASSICAL]:
            config = compose([*experiment.settings, *settings, f"data.root={tmp_path}"])
            composed += bool(config.preprocess)
    for diagnosis in script("accuracy_diagnosis").DIAGNOSES:
        composed += bool(compose([*diagnosis.settings, *diagnosis.dataset, "task=diagnosis"]).classifier)
    assert composed > 20


def test_each_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    accuracy = script("accuracy")
    folders = [
        accuracy.folder(experiment, tmp_path, name, fold)
        for experiment in accuracy.EXPERIMENTS
        for name in accuracy.variants(experiment, ablations=True)
        for fold in range(experiment.folds)
    ]
    assert len(set(folders)) == len(folders)


PAGE = "# Accuracy\n\n## One\n\n| a | b |\n|---|---|\n| x | 1 |\n| y | 2 |\n\nSaid below.\n\n# More\n\n## Two\n\nlast"


def test_an_earlier_section_is_kept_to_its_end() -> None:
    page = script("accuracy_page")
    assert page.section_of(PAGE, "Two") == ["## Two", "", "last", ""]
    assert page.section_of(PAGE, "One")[-2:] == ["Said below.", ""]
    assert page.section_of(PAGE, "Three") == []
    before = page.earlier(PAGE, "One")
    assert before.of("y") == ["| y | 2 |"]
    assert before.tail == ["Said below.", ""]
    assert page.earlier(PAGE.replace("Said", "Notes: said"), "One").tail == []


def test_a_page_written_again_without_any_run_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (SCRIPTS.parent / "docs" / "ACCURACY.md").read_text()
    copy = tmp_path / "ACCURACY.md"
    copy.write_text(before)
    for name in ("accuracy", "accuracy_diagnosis"):
        module = script(name)
        monkeypatch.setattr(module, "PAGE", copy)
        monkeypatch.setattr(sys, "argv", [name, str(tmp_path), str(tmp_path / "none"), "--table"])
        with pytest.raises(SystemExit) as ended:
            module.main()
        assert ended.value.code == 0
    assert copy.read_text() == before


def test_a_run_that_fails_is_said_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    module, commands = script("accuracy"), []
    monkeypatch.setattr(module, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(module, "done", lambda command: commands.append(command) or len(commands) > 1)
    monkeypatch.setattr(sys, "argv", ["accuracy", str(tmp_path), str(tmp_path / "out"), "--only", "skin_untrained"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert (ended.value.code, len(commands)) == (1, 8)
    page = script("accuracy_page")
    assert [page.done(["sh", "-c", f"exit {status}"]) for status in (0, 3, 2)] == [True, True, False]
    assert "ended with status 2: sh -c exit 2" in capfd.readouterr().out
