"""Check settings before data are read: types and ranges by the schema, then combinations of values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from medseg.config.settings import (
    NetworkSettings,
    OrganSettings,
    Settings,
    StackingSettings,
    UNetSettings,
    Wording,
)
from medseg.errors import ConfigError
from medseg.segmentation.planner import PRETRAINED_DEPTH

# Settings that a plan can derive from the data.
AUTO = (
    "organ.spacing_mm", "organ.image_size", "segmenter.patch_size", "segmenter.batch_size",
    "segmenter.network.dimensions", "segmenter.network.depth", "segmenter.network.encoder", "segmenter.network.norm",
    "preprocess.intensity", "preprocess.grid",
)  # fmt: skip

# Settings that may differ when a run is resumed: how long, and where it is computed.
SCHEDULE = ("trainer.fraction", "trainer.max_time", "segmenter.max_samples", "classifier.max_samples")
MAY_CHANGE = (*SCHEDULE, "compute", "logger", "data.root", "data.cache")


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


def validate(values: dict[str, Any]) -> Settings:
    """Typed settings of resolved plain values; `ConfigError` for the first invalid, unknown or missing one."""
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        errors = sorted(
            error.errors(), key=lambda e: e["type"] != "extra_forbidden"
        )  # a misspelt key also causes a missing one
        raise ConfigError(_explain(errors[0], values)) from None
    for name, value in flatten(values).items():
        if value == "auto" and name.startswith("preprocess.") and name not in AUTO:
            raise ConfigError(f"{name}=auto: a plan decides only {', '.join(AUTO)}")
    check_combinations(settings)
    return settings


def check_types(values: dict[str, Any], base: dict[str, Any]) -> None:
    """Check arguments of components against the type of their default in `base`, the settings before any override."""
    defaults = flatten(base)
    for name, value in flatten(values).items():
        if name in defaults and value != "auto" and not _same_type(value, defaults[name]):
            raise ConfigError(
                f"{name}={value!r}: must be {_describe_type(defaults[name])}, as in {name}={defaults[name]!r}"
            )


def _explain(error: Any, values: dict[str, Any]) -> str:
    """A one-line message for a pydantic error: the key, its value, and what it must be."""
    path = [str(key) for key in error["loc"] if not str(key).startswith("#")]
    if error["type"] == "extra_forbidden":
        name = ".".join(path)
        model = _model_at(path[:-1])
        siblings = [".".join([*path[:-1], key]) for key in (model.model_fields if model is not None else {})]
        return f"{name}: no such setting{did_you_mean(name, siblings)}"
    field: FieldInfo | None = None
    name, value = "", cast(Any, values)
    for length in range(1, len(path) + 1):
        key_field = _field_at(path[:length])
        if key_field is None:
            break
        field, name = key_field, ".".join(path[:length])
        value = value.get(path[length - 1]) if isinstance(value, dict) else value
    assert field is not None, path
    if error["type"] == "missing":
        return f"{name} is missing: {field.description}"
    inner = path[name.count(".") + 1 :]
    if len(inner) == 1 and isinstance(value, dict) and get_origin(field.annotation) is dict:  # one value of a mapping
        return f"{name}.{inner[0]}={value.get(inner[0])!r}: must be {describe(get_args(field.annotation)[1])}"
    return f"{name}={value!r}: must be {describe(field.annotation, field.metadata)}"


def _field_at(path: Sequence[str]) -> FieldInfo | None:
    model = _model_at(path[:-1])
    if model is None:
        return None
    aliases = {field.alias or name: field for name, field in model.model_fields.items()}
    return aliases.get(path[-1])


def _model_at(path: Sequence[str]) -> type[BaseModel] | None:
    """The class of the group at a path of keys; of several classes of a group, the one with most keys."""
    model: type[BaseModel] = Settings
    for key in path:
        field = model.model_fields.get(key)
        kinds = [kind for kind in _plain_types(field.annotation) if field] if field else []
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not models:
            return None
        model = max(models, key=lambda kind: len(kind.model_fields))
    return model


def _plain_types(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _plain_types(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [plain for member in get_args(kind) for plain in _plain_types(member)]
    return [kind]


def describe(kind: Any, metadata: Sequence[Any] = ()) -> str:
    """A type in words: ``a whole number of at least 1``, ``null or text``, ``one of cpu, cuda``."""
    metadata = [fact for item in metadata for fact in (item.metadata if isinstance(item, FieldInfo) else [item])]
    for item in metadata:
        if isinstance(item, Wording):
            return item.text
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return describe(arguments[0], [*metadata, *arguments[1:]])
    if origin in (Union, UnionType):
        short = [text for member, text in ((type(None), "null"), (Literal["auto"], "auto")) if member in arguments]
        long = [describe(member) for member in arguments if member not in (type(None), Literal["auto"])]
        return " or ".join([*short, *long])
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments)) if len(arguments) > 1 else str(arguments[0])
    if origin is list:
        return f"a list, each {describe(arguments[0])}"
    if origin is dict or kind is dict:
        return "a group"
    return _bounded(kind, metadata) if kind in (int, float) else _KINDS.get(kind, "a group")


_KINDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}


def _bounded(kind: Any, metadata: Sequence[Any]) -> str:
    bounds = {
        name: getattr(item, name) for item in metadata for name in ("ge", "gt", "le", "lt") if hasattr(item, name)
    }
    text = _KINDS[kind]
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if low is not None and high is not None:
        return f"{text} between {low:g} and {high:g}" if "gt" in bounds else f"{text} from {low:g} to {high:g}"
    if low is not None:
        return f"{text} of at least {low:g}" if "ge" in bounds else f"{text} above {low:g}"
    return text


def _same_type(value: Any, default: Any) -> bool:
    if default is None or value is None or default in ({}, "auto"):
        return True
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, list) and isinstance(value, list):
        kinds = [item for item in default if item is not None]
        return not kinds or all(item is None or _same_type(item, kinds[0]) for item in value)
    return type(value) is type(default)


def _describe_type(value: Any) -> str:
    return _KINDS.get(type(value), "a group")


def check_resume(old: Settings, new: Settings, keys: list[str], run: str) -> None:
    """`ConfigError` if any of `keys` differs from the `old` settings of the run and must not."""
    old_values, new_values = flatten(old.to_dict()), flatten(new.to_dict())
    names = [
        name for name in {**new_values, **old_values} if any(name == key or name.startswith(f"{key}.") for key in keys)
    ]
    texts = {name: f"{name}={new_values.get(name)!r} (the run: {old_values.get(name)!r})" for name in names}
    changed = [name for name in names if new_values.get(name) != old_values.get(name)]
    refused = [texts[name] for name in changed if not _among(name, MAY_CHANGE)]
    if refused:
        raise ConfigError(
            f"resume={run}: {', '.join(refused)}: a resumed run keeps its settings; train another in a new run_dir. "
            f"Only these may change: {', '.join(MAY_CHANGE)}"
        )
    longer = [texts[name] for name in changed if _among(name, SCHEDULE)]
    if longer and old.task == "diagnosis" and isinstance(old.classifier, StackingSettings):
        raise ConfigError(
            f"resume={run}: {', '.join(longer)}: all folds of a stack have one schedule; train another in a new run_dir"
        )


def _among(name: str, keys: Sequence[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)


def check_combinations(settings: Settings) -> None:
    """Check combinations of values."""
    organ, segmenter = settings.organ, settings.segmenter
    if isinstance(segmenter, UNetSettings):
        _check_network(segmenter, organ)
    if isinstance(settings.classifier, StackingSettings) and not settings.classifier.n_folds:
        raise ConfigError("classifier.n_folds=0: stacking is trained on folds; at least 2, or classifier=sequence_lstm")
    for name in {name for pair in organ.lateral_pairs for name in pair} - set(organ.labels):
        raise ConfigError(f"organ.lateral_pairs: {name!r} is not one of organ.labels {list(organ.labels)}")
    numbers = sorted(organ.labels.values())
    if numbers != list(range(1, len(numbers) + 1)):
        raise ConfigError(f"organ.labels={organ.labels}: each label needs its own number, 1, 2, 3 … (0 is background)")
    _check_codes(organ.snomed_codes)
    if settings.task == "diagnosis" and len(organ.classes) < 2:
        raise ConfigError(f"task=diagnosis needs at least two organ.classes, not {organ.classes}")
    if settings.data.test_fraction == 1 and isinstance(segmenter, UNetSettings):
        raise ConfigError("data.test_fraction=1 leaves no training cases; it is for classical segmentation")
    if not organ.exclusive_labels and (len(numbers) > 8 or organ.lateral_pairs):
        raise ConfigError("organ.exclusive_labels=false: at most 8 labels may overlap, and none may be a lateral pair")
    if not organ.exclusive_labels and organ.intensity_rank and not isinstance(segmenter, UNetSettings):
        raise ConfigError(
            "organ.exclusive_labels=false: labels of classical segmentation cannot overlap; use "
            "organ.exclusive_labels=true"
        )


def _check_codes(codes: dict[str, list[str]]) -> None:
    for name, pair in codes.items():
        if len(pair) != 2 or not all(re.fullmatch(r"\d{6,16} \S.*", code) for code in pair):
            raise ConfigError(
                f"organ.snomed_codes.{name}={pair!r}: must be two SNOMED CT codes, of its category and its type, each "
                "with its meaning, e.g. [91723000 Anatomical structure, 39607008 Lung]"
            )


def _check_network(segmenter: UNetSettings, organ: OrganSettings) -> None:
    if "x" in segmenter.predict.mirror_axes and organ.lateral_pairs:
        raise ConfigError("segmenter.predict.mirror_axes=[x] would average the labels of a lateral pair; leave x out")
    network, patch = segmenter.network, segmenter.patch_size
    if network.encoder not in ("none", "auto") and (
        network.dimensions == 3 or network.depth not in (PRETRAINED_DEPTH, "auto")
    ):
        raise ConfigError(
            f"segmenter.network.encoder={network.encoder}: is for images and slices, with "
            f"segmenter.network.dimensions=2 and segmenter.network.depth={PRETRAINED_DEPTH}, not "
            f"{network.dimensions} and {network.depth}; or set segmenter.network.encoder=none"
        )
    if "auto" in (patch, segmenter.batch_size, network.dimensions, network.depth, network.encoder, network.norm):
        return  # a plan decides
    _check_patch(network, list(patch))


def _check_patch(network: NetworkSettings, patch: list[Any]) -> None:
    if len(patch) != network.dimensions:
        raise ConfigError(
            f"segmenter.patch_size={patch}: a {network.dimensions}D network needs {network.dimensions} sizes "
            f"(or choose segmenter.network.dimensions={len(patch)})"
        )
    factor = 2 ** int(network.depth)
    for size in patch:
        if size < 1 or size % factor:
            near = max(factor, round(size / factor) * factor)
            raise ConfigError(
                f"segmenter.patch_size={patch}: each size must be a multiple of 2^depth = {factor}, e.g. {near} for "
                f"{size}"
            )
    if all(size == factor for size in patch):
        raise ConfigError(
            f"segmenter.patch_size={patch}: leaves one voxel at the lowest level; use at least {2 * factor}"
        )


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """``, did you mean X?`` for the nearest known words, or nothing."""
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    if not near:  # right key in the wrong group
        last = word.rsplit(".", 1)[-1]
        near = [name for name in known if difflib.SequenceMatcher(None, name.rsplit(".", 1)[-1], last).ratio() > 0.8][
            :2
        ]
    return f", did you mean {' or '.join(near)}?" if near else ""
