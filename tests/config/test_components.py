"""A recipe of one's own: every fault is found before any work, and names the key and the way out."""

from pathlib import Path

import pytest

from medseg.config.components import check_components
from medseg.config.compose import compose, group_choices
from medseg.errors import ConfigError

LIVER = """# @package _global_
# Liver in CT.
defaults:
  - override /quality: ct
  - override /preprocess: ct
organ:
  name: liver
  channels: [ct]
  labels: {liver: 1}
  window_hu: [-150.0, 250.0]
  field_of_view: {_target_: medseg.preprocess.field_of_view.Body}
"""


def recipe(folder: Path, text: str) -> Path:
    (folder / "organ").mkdir(parents=True, exist_ok=True)
    (folder / "organ" / "liver.yaml").write_text(text)
    return folder


def check(folder: Path, text: str, *overrides: str) -> None:
    check_components(compose(["organ=liver", *overrides], recipe(folder, text)))


@pytest.mark.parametrize("organ", group_choices()["organ"])
@pytest.mark.parametrize("task", ["segmentation", "diagnosis"])
def test_check_components_shipped_recipe_passes(organ: str, task: str) -> None:
    check_components(compose([f"organ={organ}", f"task={task}"]))


@pytest.mark.parametrize("segmenter", group_choices()["segmenter"])
def test_check_components_every_segmenter_passes(segmenter: str) -> None:
    check_components(compose(["organ=skin", f"segmenter={segmenter}"]))


def test_check_components_own_recipe_passes(tmp_path: Path) -> None:
    check(tmp_path, LIVER)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("labels:", "label:", ["organ.label: no such setting", "did you mean organ.labels"]),
        ("  channels: [ct]\n", "", ["organ.channels is missing"]),
        ("{liver: 1}", "{liver: one}", ["organ.labels.liver='one'", "whole number"]),
        ("[ct]", "ct", ["organ.channels='ct'", "a list"]),
        (
            "  field_of_view: {_target_: medseg.preprocess.field_of_view.Body}\n",
            "",
            ["organ.field_of_view is null", "quality.field", "set it in the recipe"],
        ),
        ("field_of_view.Body", "field_of_view.Bodie", ["Bodie", "not allowed"]),
        (".Body}", ".Body, lo: 1}", ["organ.field_of_view.lo: Body has no such argument"]),
    ],
)
def test_check_components_faulty_recipe_names_key_and_way_out(
    tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    assert old in LIVER
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, LIVER.replace(old, new))
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_check_components_missing_argument_is_named() -> None:
    with pytest.raises(ConfigError, match=r"preprocess\.extra\.high is missing: Window needs it"):
        check_components(
            compose(
                [
                    "organ=lung",
                    "+preprocess.extra._target_=medseg.preprocess.intensity.Window",
                    "+preprocess.extra.low=0.0",
                ]
            )
        )


def test_train_recipe_without_phantom_or_data_is_one_message(tmp_path: Path) -> None:
    from medseg.training.train import train

    with pytest.raises(ConfigError, match=r"organ=liver has no phantom .* data\.root=FOLDER"):
        train(compose(["organ=liver", f"run_dir={tmp_path / 'run'}"], recipe(tmp_path, LIVER)))
    assert not (tmp_path / "run").exists()
