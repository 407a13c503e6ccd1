"""What settings may be: types, ranges and combinations, checked before anything is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from medseg.errors import ConfigError

Test = tuple[Callable[[Any], bool], str]


def _whole(low: int) -> Test:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= low, f"a whole number of at least {low}"


def _between(low: float, high: float) -> Test:
    return lambda v: _is_number(v) and low <= v <= high, f"a number from {low:g} to {high:g}"


def _above(low: float) -> Test:
    return lambda v: _is_number(v) and v > low, f"a number above {low:g}"


def _one_of(*choices: Any) -> Test:
    return lambda v: v in choices, "one of " + ", ".join(map(str, choices))


def _optional(test: Test) -> Test:
    return lambda v: v is None or test[0](v), f"null or {test[1]}"


def _auto_or(test: Test) -> Test:
    return lambda v: v == "auto" or test[0](v), f"auto or {test[1]}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_text: Test = (lambda v: isinstance(v, str), "text")
_duration: Test = (
    lambda v: isinstance(v, str) and re.fullmatch(r"(?=.*[1-9])\d{1,3}(:\d{2}){3}", v) is not None,
    "a duration DD:HH:MM:SS of at least a second, such as 00:00:10:00",
)

# Settings whose default does not tell their type, or that have a range.
RULES: dict[str, Test] = {
    "task": _one_of("segmentation", "diagnosis"),
    "seed": _whole(0),
    "run_dir": _optional(_text),
    "resume": _optional(_text),
    "plan": _optional(_text),
    "data.root": _optional(_text),
    "data.masks": _optional(_text),
    "data.encoder": _optional(_text),
    "data.encoder_features": _optional(_whole(1)),
    "data.missing_mask": _one_of("unannotated", "absent"),
    "data.folds": _optional(_whole(2)),
    "data.fold": _whole(0),
    "data.holdout": _between(0, 1),
    "data.time_axis": _optional(_one_of(2, 3)),
    "data.phantom_patients": _whole(2),
    "data.phantom_frames": _optional(_whole(1)),
    "organ.label_level": _one_of("frame", "case"),
    "organ.components": _one_of(1, 3),
    "segmenter.threshold": _between(0, 1),
    "segmenter.network.dimensions": _one_of(2, 3),
    "segmenter.network.width": _whole(1),
    "segmenter.network.depth": _whole(1),
    "segmenter.network.norm": _one_of("instance", "batch", "group", "none"),
    "segmenter.network.dropout": _between(0, 0.95),
    "segmenter.context": _whole(0),
    "segmenter.batch": _whole(1),
    "segmenter.passes": _whole(1),
    "segmenter.foreground": _between(0, 1),
    "segmenter.optimizer.name": _one_of("adamw", "sgd"),
    "segmenter.optimizer.lr": _above(0),
    "segmenter.optimizer.warmup": _between(0, 0.9),
    "segmenter.optimizer.schedule": _one_of("cosine", "poly"),
    "segmenter.ema": _between(0, 0.99999),
    "segmenter.predict.overlap": _between(0, 0.9),
    "segmenter.predict.batch": _whole(1),
    "features.longest": _whole(0),
    "features.pixel_mm": _optional(_above(0)),
    "diagnoser.batch": _whole(1),
    "diagnoser.passes": _whole(1),
    "diagnoser.folds": (lambda v: _whole(0)[0](v) and v != 1, "a whole number of at least 2, or 0 for none"),
    "diagnoser.alpha": (lambda v: _is_number(v) and 0 < v < 1, "a number between 0 and 1"),
    "diagnoser.network.hidden": _whole(1),
    "diagnoser.network.layers": _whole(1),
    "diagnoser.network.dropout": _between(0, 0.95),
    "trainer.budget": _above(0),
    "trainer.max_time": _optional(_duration),
    "trainer.clip_norm": _between(0, 1e9),
    "trainer.checkpoint_every": _whole(1),
    "trainer.validate": _whole(0),
    "executor.accelerator": _one_of("auto", "cpu", "cuda"),
    "executor.devices": _one_of(1),  # one process writes a run
    "executor.precision": (lambda v: str(v) in ("auto", "32", "bf16", "16"), "one of auto, 32, bf16, 16"),
    "executor.threads": _auto_or(_whole(1)),
    "executor.workers": _auto_or(_whole(0)),
}


# What a plan can decide from the data.
AUTO = (
    "organ.spacing_mm", "organ.picture", "segmenter.patch", "segmenter.batch", "segmenter.network.dimensions",
    "segmenter.network.depth", "preprocess.intensity", "preprocess.grid",
)  # fmt: skip

# What may differ when a run goes on: how long, and where it is computed.
BUDGETS = ("trainer.budget", "trainer.max_time", "segmenter.passes", "diagnoser.passes")
MAY_CHANGE = (*BUDGETS, "executor", "logger", "data.root", "data.cache")


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` → ``{"a.b": 1}``; lists are leaves."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def check_values(values: dict[str, Any], base: dict[str, Any]) -> None:
    """Every value against its rule, else against the type of its default in `base`."""
    defaults = flatten(base)
    for name, value in flatten(values).items():
        if value == "auto" and name in AUTO:
            continue
        if name in RULES:
            test, wanted = RULES[name]
            if not test(value):
                raise ConfigError(f"{name}={value!r}: must be {wanted}")
        elif name in defaults and not _same_kind(value, defaults[name]):
            raise ConfigError(f"{name}={value!r}: must be {_kind(defaults[name])}, as in {name}={defaults[name]!r}")


def _same_kind(value: Any, default: Any) -> bool:
    if default is None or default in ({}, "auto"):
        return True
    if isinstance(default, float):
        return _is_number(value)
    if isinstance(default, list) and isinstance(value, list):
        kinds = [item for item in default if item is not None]
        return not kinds or all(item is None or _same_kind(item, kinds[0]) for item in value)
    return type(value) is type(default)


def _kind(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a group",
    }
    return names.get(type(value), type(value).__name__)


def check_resume(old: dict[str, Any], new: dict[str, Any], keys: list[str], run: str) -> None:
    """`ConfigError` naming those of the given `keys` that differ from the `old` settings of the run and may not."""
    before, now = flatten(old), flatten(new)
    given = [name for name in {**now, **before} if any(name == key or name.startswith(f"{key}.") for key in keys)]
    told = {name: f"{name}={now.get(name)!r} (the run: {before.get(name)!r})" for name in given}
    changed = [name for name in given if now.get(name) != before.get(name)]
    other = [told[name] for name in changed if not name.startswith(MAY_CHANGE)]
    if other:
        raise ConfigError(
            f"resume={run}: {', '.join(other)}: a run goes on with its own settings; train another in a new run_dir. "
            f"Only these may be given: {', '.join(MAY_CHANGE)}"
        )
    longer = [told[name] for name in changed if name.startswith(BUDGETS)]
    if longer and old["task"] == "diagnosis" and "use" in old["diagnoser"]:
        raise ConfigError(
            f"resume={run}: {', '.join(longer)}: all folds of a stack have one budget; train another in a new run_dir"
        )


def check_combinations(values: dict[str, Any]) -> None:
    """What each value allows but not together."""
    organ = values["organ"]
    if "network" in values["segmenter"] and not any(map(_is_auto, flatten(values["segmenter"]).values())):
        _check_network(values["segmenter"], organ)
    if "use" in values["diagnoser"] and not values["diagnoser"]["folds"]:
        raise ConfigError("diagnoser.folds=0: a stack learns from folds; at least 2, or diagnoser=lstm")
    labels = organ["labels"]
    pairs = organ["lateral_pairs"]
    for name in {name for pair in pairs for name in pair} - set(labels):
        raise ConfigError(f"organ.lateral_pairs: {name!r} is not one of organ.labels {list(labels)}")
    numbers = sorted(labels.values())
    if numbers != list(range(1, len(numbers) + 1)):
        raise ConfigError(f"organ.labels={labels}: each label needs its own number, 1, 2, 3 … (0 is background)")
    _check_codes(organ.get("codes") or {})
    if values["task"] == "diagnosis" and len(organ["classes"]) < 2:
        raise ConfigError(f"task=diagnosis needs at least two organ.classes, not {organ['classes']}")
    if values["data"]["holdout"] == 1 and "network" in values["segmenter"]:
        raise ConfigError("data.holdout=1 leaves nothing to learn from; it is for segmenters without training")
    if not organ["exclusive"] and (len(numbers) > 8 or pairs):
        raise ConfigError("organ.exclusive=false: at most 8 labels may overlap, and none may be a lateral pair")
    if not organ["exclusive"] and organ["appearance"] and "network" not in values["segmenter"]:
        raise ConfigError(
            "organ.exclusive=false: labels of a segmenter without training cannot overlap; take organ.exclusive=true"
        )


def _check_codes(codes: dict[str, Any]) -> None:
    for name, pair in codes.items():
        alike = isinstance(pair, list) and len(pair) == 2 and all(re.fullmatch(r"\d{6,16} \S.*", str(c)) for c in pair)
        if not alike:
            raise ConfigError(
                f"organ.codes.{name}={pair!r}: must be two codes of SNOMED CT, its category's and its own, each with "
                "its meaning, e.g. [91723000 Anatomical structure, 39607008 Lung]"
            )


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _check_network(segmenter: dict[str, Any], organ: dict[str, Any]) -> None:
    if "x" in segmenter["predict"]["mirror"] and organ["lateral_pairs"]:
        raise ConfigError("segmenter.predict.mirror=[x] would average a lateral pair with its twin; leave x out")
    network, patch = segmenter["network"], segmenter["patch"]
    if len(patch) != network["dimensions"]:
        raise ConfigError(
            f"segmenter.patch={patch}: a {network['dimensions']}D network needs {network['dimensions']} sizes "
            f"(or choose segmenter.network.dimensions={len(patch)})"
        )
    factor = 2 ** network["depth"]
    for size in patch:
        if size < 1 or size % factor:
            near = max(factor, round(size / factor) * factor)
            raise ConfigError(
                f"segmenter.patch={patch}: each size must be a multiple of 2^depth = {factor}, e.g. {near} for {size}"
            )
    if all(size == factor for size in patch):
        raise ConfigError(f"segmenter.patch={patch}: leaves one voxel at the lowest level; take at least {2 * factor}")
