import time
from pathlib import Path

import pytest

from medseg.config.checks import did_you_mean
from medseg.config.components import build
from medseg.config.compose import compose, group_choices, multirun
from medseg.config.load import to_yaml
from medseg.config.settings import Settings
from medseg.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], ["no organ chosen", "organ=NAME", "lung"]),
        (["organ=lnug"], ["organ=lnug: no such choice", "did you mean lung?"]),
        (["organ=lung", "trainer.max_tim=1"], ["trainer.max_tim: no such setting", "did you mean trainer.max_time"]),
        (["organ=lung", "max_sample=10"], ["max_sample: no such setting", "did you mean organ.max_samples"]),
        (["organ=lung", "segmentor=unet2d"], ["segmentor: no such setting", "did you mean segmenter"]),
        (["organ=lung", "segmenter=unet4d"], ["segmenter=unet4d: no such choice", "did you mean unet3d or unet2d?"]),
        (["organ=lung", "seed=one"], ["seed='one'", "whole number"]),
        (["organ=lung", "segmenter.optimizer.lr=fast"], ["segmenter.optimizer.lr='fast'", "number above 0"]),
        (["organ=lung", "segmenter.ema_decay=true"], ["segmenter.ema_decay=True", "number from 0"]),
        (["organ=lung", "trainer.max_time=10"], ["trainer.max_time=10", "DD:HH:MM:SS"]),
        (["organ=lung", "trainer.max_time=00:00:00:00"], ["trainer.max_time='00:00:00:00'", "at least a second"]),
        (["organ=lung", "segmenter.patch_size=[100,100]"], ["multiple of 2^depth = 16", "96 for 100"]),
        (["organ=lung", "segmenter.patch_size=[16,16]"], ["one voxel at the lowest level", "32"]),
        (["organ=lung", "segmenter.patch_size=[96,96,32]"], ["a 2D network needs 2 sizes", "dimensions=3"]),
        (["organ=lung", "organ.lateral_pairs=[[a,left_lung]]"], ["'a' is not one of organ.labels"]),
        (["organ=lung", "organ.snomed_codes.left_lung=[Lung]"], ["organ.snomed_codes.left_lung=['Lung']", "SNOMED CT"]),
        (["organ=lung", "organ.labels.left_lung=1"], ["each label needs its own number"]),
        (["organ=lung", "task=diagnosis", "organ.classes=[one]"], ["at least two organ.classes"]),
        (["organ=lung", "classifier.n_folds=1"], ["classifier.n_folds=1", "at least 2, or 0 for none"]),
        (["organ=lung", "classifier.alpha=1.0"], ["classifier.alpha=1.0", "between 0 and 1"]),
        (["organ=skin", "classifier.n_folds=0"], ["stacking is trained on folds", "classifier=sequence_lstm"]),
        (["organ=lung", "segmenter.predict.mirror_axes=[x]"], ["lateral pair"]),
        (["organ=skin", "segmenter=otsu", "organ.exclusive_labels=false"], ["classical segmentation cannot overlap"]),
        (["resume=nowhere"], ["resume=nowhere: not a run folder"]),
        (["organ=lung", "seed"], ["'seed' is not KEY=VALUE"]),
        (["organ=lung", "dataset=none_such"], ["dataset=none_such"]),
    ],
)
def test_a_wrong_setting_is_one_message_with_the_way_out(overrides: list[str], words: list[str]) -> None:
    started = time.process_time()  # of this process: others may be busy
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    assert time.process_time() - started < 2
    assert caught.value.exit_status == 2
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_compose_overrides_remove_steps_and_change_values() -> None:
    values = compose(["organ=lung", "~preprocess.window", "segmenter.network.width=8"]).to_dict()
    assert list(values["preprocess"]) == ["orient", "resample"]
    assert values["segmenter"]["network"]["width"] == 8


def test_groups_read_the_facts_of_the_organ() -> None:
    values = compose(["organ=lung", "organ.window_hu=[-500,500]"]).to_dict()
    assert (values["preprocess"]["window"]["low"], values["preprocess"]["window"]["high"]) == (-500, 500)


def test_own_configs_come_from_a_folder_with_blanks(tmp_path: Path) -> None:
    folder = tmp_path / "my configs" / "trainer"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("defaults: [default, _self_]\nfraction: 0.5\n")
    config = compose(["organ=lung", "trainer=mine"], folder.parent)
    assert config.trainer.fraction == 0.5
    assert config.trainer.checkpoint_every_n_steps == compose(["organ=lung"]).trainer.checkpoint_every_n_steps
    with pytest.raises(ConfigError, match="no such folder"):
        compose(["organ=lung"], tmp_path / "nowhere")


def test_yaml_is_resolved_and_composes_to_itself() -> None:
    assert "${" not in to_yaml(compose(["organ=lung"]))


@pytest.mark.parametrize(
    "target", ["os.system", "builtins.eval", "medsegevil.run", "pytorch_lightning.loggers.CSVLogger"]
)
def test_settings_may_name_only_our_own_classes(target: str) -> None:
    with pytest.raises(ConfigError, match="is not allowed"):
        build({"a": [{"_target_": target}]})


def test_a_wrong_argument_names_the_target() -> None:
    with pytest.raises(ConfigError, match=r"medseg\.preprocess\.intensity\.Window"):
        build({"_target_": "medseg.preprocess.intensity.Window", "lo": 1})


def test_suggestions() -> None:
    assert did_you_mean("lnug", ["lung", "skin"]) == ", did you mean lung?"
    assert did_you_mean("qqqq", ["lung"]) == ""


def test_group_choices_are_the_files() -> None:
    assert "lung" in group_choices()["organ"]
    assert {"default", "quick"} <= set(group_choices()["trainer"])


@pytest.mark.parametrize(
    "target", ["medseg.segmentation.sliding_window.torch.os.system", "medseg.utils.files.os.getpid"]
)
def test_require_allowed_refuses_imported_names(target: str) -> None:
    with pytest.raises(ConfigError, match="is not allowed"):
        build({"_target_": target})


def test_a_value_that_a_step_refuses_is_one_message() -> None:
    with pytest.raises(ConfigError, match=r"Window: .*low must be below high"):
        build({"_target_": "medseg.preprocess.intensity.Window", "low": 5, "high": 1})


def test_compose_completes_a_users_trainer_file(tmp_path: Path) -> None:
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "mine.yaml").write_text("max_time: 00:00:00:20\n")
    config = compose(["organ=lung", "trainer=mine"], tmp_path)
    assert (config.trainer.max_time, config.trainer.fraction) == ("00:00:00:20", 1.0)


@pytest.mark.parametrize("wrong", ["trainer=quik,quick", "run_dir=x", "resume=x"])
def test_multirun_refuses_before_the_first_run(wrong: str) -> None:
    with pytest.raises(ConfigError):
        multirun(["organ=lung", wrong], None, lambda _config: pytest.fail("it ran"))


def test_multirun_error_of_one_run_is_raised_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_settings: Settings) -> None:
        raise ConfigError("data.root: not there")

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="not there"):
        multirun(["organ=lung", "seed=1,2"], None, fail)
