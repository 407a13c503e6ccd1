"""Nothing but medseg's own classes: functions, methods, imports and re-exports are refused without being called."""

from typing import Any

import pytest

from medseg.config.components import build
from medseg.config.compose import compose, group_choices
from medseg.config.targets import OWN, check_targets, iter_mappings, require_allowed
from medseg.errors import ConfigError

FOREIGN = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "medseg.config.compose.build",
    "medseg.cli.app.main",
    "medseg.runs.run.open_run",
    "medseg.runs.run.Run",
    "medseg.utils.files.atomic_write_text",
    "medseg.datasets.phantoms.skin.make_cohort",
    "medseg.io.image.write_image",
    "medseg.quality.image_checks.shrunk",
    "medseg.quality.image_checks.cv2.imread",
    "medseg.quality.image_checks.Blur.__call__",
    "medseg.quality.image_checks.Blur.__class__",
    "medseg.segmentation.sliding_window.torch.hub.load",
    "medseg.segmentation.sliding_window.torch",
    "medseg.segmentation.sliding_window.TiledNetwork.predict",
    "medseg.diagnosis.voting_ensemble.VotingEnsemble.load",
    "medseg.diagnosis.voting_ensemble.VotingEnsemble.fit",
    "medseg.features.size.frame_features",
    "medseg.features.size._moments",
    "medseg.preprocess",
    "medseg.preprocess.",
    "medseg.preprocess..quality.Blur",
    "medseg.preprocess.no_such.Class",
    "hydra.utils.get_method",
    "pytorch_lightning.loggers.CSVLogger",
    "",
    None,
    ["os.system"],
]


@pytest.mark.parametrize("target", FOREIGN, ids=str)
@pytest.mark.parametrize("wrap", [lambda node: node, lambda node: {"a": [[{"b": node}]]}], ids=["plain", "nested"])
def test_a_foreign_target_is_refused_at_any_depth(target: Any, wrap: Any) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        build(wrap({"_target_": target, "_args_": ["touch hacked"]}))


def test_a_foreign_target_is_refused_beside_a_good_one_and_as_a_partial() -> None:
    good = {"_target_": "medseg.quality.image_checks.Blank"}
    with pytest.raises(ConfigError, match="not allowed"):
        build({**good, "least": {"_target_": "os.getpid"}})
    with pytest.raises(ConfigError, match="not allowed"):
        build({"_target_": "os.system", "_partial_": True})
    with pytest.raises(ConfigError, match="not allowed"):
        build({"_target_": "medseg.io.image.write_image", "_partial_": True})


def test_text_that_hydra_would_resolve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "0.5")
    with pytest.raises(ConfigError, match="is a reference or a missing value"):
        build({"_target_": "medseg.quality.image_checks.Blank", "minimum": "${oc.env:SECRET}"})


def test_require_allowed_takes_feature_functions_as_partials_only() -> None:
    node = {"_target_": "medseg.features.size.frame_features"}
    assert callable(build({**node, "_partial_": True}))
    with pytest.raises(ConfigError, match="_partial_: true"):
        build({**node, "_partial_": "yes"})


@pytest.mark.parametrize("organ", group_choices()["organ"])
def test_every_recipe_names_only_what_is_allowed(organ: str) -> None:
    check_targets(compose([f"organ={organ}"]).to_dict())
    check_targets(compose([f"organ={organ}", "logger=csv"]).to_dict())


def test_phantoms_belong_to_the_organ_alone() -> None:
    settings = compose(["organ=skin"]).to_dict()
    settings["preprocess"]["extra"] = settings["organ"]["phantom"]
    with pytest.raises(ConfigError, match="make_cohort"):
        check_targets(settings)


def test_iter_mappings_yields_outermost_first() -> None:
    assert [len(node) for node in iter_mappings({"a": [{"b": 1}], "c": 2})] == [2, 1]
    require_allowed({"a": 1}, OWN)


@pytest.mark.parametrize(
    "target",
    [
        "medseg.preprocess.hair_removal.Fundus",  # not there
        "medseg.preprocess.intensity.Path",
        "medseg.segmentation.candidate_ranker.Candidate",  # ours, but made in another module
        "medseg.segmentation.lightning_module.DataLoader",
        "medseg.quality.image_checks.partial",
    ],
)
def test_a_name_that_a_module_of_ours_only_imports_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        require_allowed({"_target_": target}, OWN)


def test_a_class_imported_into_a_module_of_ours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    from medseg.preprocess import intensity

    monkeypatch.setattr(intensity, "Popen", subprocess.Popen, raising=False)  # as `from subprocess import Popen` would
    with pytest.raises(ConfigError, match="not allowed"):
        require_allowed({"_target_": "medseg.preprocess.intensity.Popen", "args": ["true"]}, OWN)
