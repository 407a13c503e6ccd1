"""What is occluded is what is named, and the effect of it is that of a model whose log-odds are known."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from medseg.diagnosis.sequence_dataset import Item
from medseg.features.sequences import FeatureSequence
from medseg.inference.attribution import (
    FeatureRef,
    deep_groups,
    describe_effects,
    occlude,
    occlusion_effects,
    sequence_groups,
    step_refs,
    table_columns,
)
from medseg.typing import FloatArray


def sequence() -> FeatureSequence:
    random = np.random.default_rng(0)
    unknown, x = np.full(4, np.nan), random.normal(size=(4, 3))
    names, steps = ("a", "b", "a.slope"), random.normal(size=(4, 5, 2))
    frames = np.arange(4.0) * 2
    return FeatureSequence(
        "c", "p", frames, unknown, x, np.isfinite(x), names, (None,) * 4, unknown, steps, ("area", "mean")
    )


def test_table_columns_are_features_then_means_then_spreads() -> None:
    refs = table_columns(sequence())
    kinds = ["feature"] * 3 + ["step_mean"] * 2 + ["step_sd"] * 2
    assert [(ref.kind, ref.index) for ref in refs] == list(zip(kinds, [0, 1, 2, 0, 1, 0, 1], strict=True))
    assert [ref.name for ref in refs[3:]] == ["mean of area", "mean of mean", "sd of area", "sd of mean"]


def test_table_columns_leave_out_deep_features_of_steps() -> None:
    refs = table_columns(replace(sequence(), step_names=("deep.step_000", "mean")))
    assert [(ref.kind, ref.index) for ref in refs[3:]] == [("step_mean", 1), ("step_sd", 1)]


def test_deep_features_are_occluded_together_by_region() -> None:
    groups = deep_groups(["deep.rim_000", "deep.rim_001", "deep.image_000"])
    assert {name: [ref.index for ref in refs] for name, refs in groups.items()} == {
        "deep features of the rim": [0, 1],
        "deep features of the image": [2],
    }
    joined = sequence_groups(replace(sequence(), names=("deep.rim_000", "b", "deep.rim_000.slope")), False)
    assert [ref.index for ref in joined["deep features of the rim"]] == [0, 2]


def test_occlude_sets_only_what_is_named_to_its_mean() -> None:
    one = sequence()
    item = Item(one.x, one.steps)
    before = (one.x.copy(), one.steps.copy())  # type: ignore[union-attr]
    blank = occlude(item, [FeatureRef("feature", "b", 1)])
    assert (blank.x[:, 1] == 0).all()
    assert (blank.x[:, [0, 2]] == one.x[:, [0, 2]]).all()
    blank = occlude(item, [FeatureRef("frame", "frame 4", 2)])
    assert (blank.x[2] == 0).all()
    assert (blank.x[[0, 1, 3]] == one.x[[0, 1, 3]]).all()
    blank = occlude(item, [FeatureRef("step", "step 4 of 5", 3)])
    assert blank.steps is not None
    assert (blank.steps[:, 3] == 0).all()
    assert (blank.steps[:, :3] == one.steps[:, :3]).all()  # type: ignore[index]
    blank = occlude(item, [FeatureRef("step_mean", "mean of mean", 1)])
    assert blank.steps is not None
    assert blank.steps[:, :, 1].mean() == pytest.approx(0)
    assert (blank.steps[:, :, 0] == one.steps[:, :, 0]).all()  # type: ignore[index]
    assert (occlude(item, [FeatureRef("step_sd", "sd of area", 0)]).steps == one.steps).all()
    assert (item.x == before[0]).all()
    assert (item.steps == before[1]).all()


def test_sequence_groups_join_a_feature_with_its_slope() -> None:
    groups = sequence_groups(sequence(), single_prediction=True)
    assert [ref.index for ref in groups["a"]] == [0, 2]
    assert list(groups) == ["a", "b", *(f"step {k} of 5" for k in range(1, 6)), *(f"frame {k}" for k in (0, 2, 4, 6))]
    assert not any(name.startswith("frame") for name in sequence_groups(sequence(), single_prediction=False))
    assert step_refs(Item(sequence().x)) == []


def test_occlusion_effects_of_a_logistic_model_are_its_terms() -> None:
    x, weights = np.array([[1.0, -2.0, 0.5], [-1.0, 0.3, 0.2]]), np.array([0.7, 0.4, -1.0])

    def predict(refs: Sequence[FeatureRef]) -> FloatArray:
        changed = x.copy()
        changed[:, [ref.index for ref in refs]] = 0
        p = 1 / (1 + np.exp(-(changed @ weights)))
        return np.stack([1 - p, p], axis=1)

    groups = {name: [FeatureRef("feature", name, k)] for k, name in enumerate("abc")}
    effects = np.stack(list(occlusion_effects(predict([]), groups, predict).values()), axis=1)
    sign = np.where(x @ weights > 0, 1, -1)[:, None]  # of the predicted class
    assert effects == pytest.approx(sign * x * weights)


@pytest.mark.parametrize(
    ("effects", "text"),
    [
        ({"a": 0.5, "b": -1.25, "c": 0.2}, "b −1.25, a +0.50"),
        ({"a": 0.004, "b": 0.0}, ""),
        ({"well-known": 0.02}, "well-known +0.02"),
    ],
)
def test_describe_effects_lists_largest_with_minus_sign(effects: dict[str, float], text: str) -> None:
    assert describe_effects(effects, 2) == text
