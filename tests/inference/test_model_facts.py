"""What models take and give, known before one is loaded."""

from pathlib import Path

import pytest

from medseg.config.compose import compose
from medseg.config.load import to_yaml
from medseg.errors import ConfigError
from medseg.inference.model_facts import ensemble_facts, fold_facts, segmentation_settings
from medseg.runs.run import Run


def run_of(folder: Path, *overrides: str) -> Run:
    """Settings alone: no weights, which nobody may look for."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(compose(list(overrides))))
    return Run(folder)


def test_ensemble_facts_of_equal_labels_give_a_folder_each(tmp_path: Path) -> None:
    facts = ensemble_facts([run_of(tmp_path / name / "run", "organ=lung") for name in "ab"])
    assert facts.names == facts.folders == ["a_run", "b_run"]
    assert facts.channels == ["ct"]
    assert facts.labels.numbers == {"right_lung": 1, "left_lung": 2}


def test_ensemble_facts_of_other_labels_give_one_map(tmp_path: Path) -> None:
    both = [run_of(tmp_path / "lungs", "organ=lung"), run_of(tmp_path / "lesion", "organ=breast")]
    facts = ensemble_facts(both)
    assert facts.folders == [""]
    assert dict(facts.labels.numbers) == {"right_lung": 1, "left_lung": 2, "tumour": 3}
    assert facts.channels == ["ct", *segmentation_settings(both[1]).organ.channels]


def test_ensemble_facts_of_one_run_named_twice_tell_them_apart(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "organ=lung")
    assert ensemble_facts([run, run]).names == ["run_1", "run_2"]


def test_fold_facts_of_other_recipes_are_refused(tmp_path: Path) -> None:
    lungs, lesion = run_of(tmp_path / "lungs", "organ=lung"), run_of(tmp_path / "lesion", "organ=breast")
    assert fold_facts([lungs]).folders == [""]
    with pytest.raises(ConfigError, match="other labels"):
        fold_facts([lungs, lesion])


def test_segmentation_settings_of_a_diagnosis_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="task=segmentation"):
        segmentation_settings(run_of(tmp_path / "run", "organ=lung", "task=diagnosis"))
