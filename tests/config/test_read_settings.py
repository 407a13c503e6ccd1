"""Every setting that is accepted is read: none is taken and does nothing."""

import ast
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import medseg
from medseg.config.checks import flatten
from medseg.config.compose import READ_BY_CODE, compose
from medseg.config.settings import OrganSettings, Settings
from medseg.errors import ConfigError
from scripts.make_reference import models

# a value of each fact that no recipe has
OTHER = {
    "spacing_mm": "[7.5,7.5,7.5]", "window_hu": "[-321.0,123.0]", "field_of_view_px": "77", "max_samples": "1234",
    "context_slices": "3", "mirror_axes": "[z]", "image_size": "[64,96]",
    "field_of_view": "{_target_: medseg.preprocess.field_of_view.Head}", "intensity_rank": "{other: bright}",
    "classical_unsupported_reason": "why not",
}  # fmt: skip


def test_organ_facts_are_read_by_code_or_tried_here() -> None:
    assert set(OTHER) | set(READ_BY_CODE) == set(OrganSettings.model_fields)


# a volume, a 2D image and an image without colour; a network, one with sizes of its own, none: others read the same
@pytest.mark.parametrize("segmenter", ["unet2d", "unet2d_patches", "otsu"])
@pytest.mark.parametrize("organ", ["lung", "retina", "breast"])
@pytest.mark.parametrize("fact", OTHER)
def test_override_of_a_fact_changes_what_is_read_or_is_refused(organ: str, segmenter: str, fact: str) -> None:
    base = [f"organ={organ}", f"segmenter={segmenter}"]
    before = others(compose(base))
    try:
        after = others(compose([*base, f"organ.{fact}={OTHER[fact]}"]))
    except ConfigError as error:
        after = {"refused": fact in str(error) or "organ.exclusive_labels" in str(error)}
    assert after != before
    assert after.get("refused", True)


def others(settings: Settings) -> dict[str, Any]:
    """All settings but the organ's facts."""
    return {key: value for key, value in flatten(settings.to_dict()).items() if not key.startswith("organ.")}


def test_max_samples_of_an_organ_is_refused_where_the_segmenter_states_its_own() -> None:
    with pytest.raises(ConfigError, match=r"organ\.max_samples: none of the chosen groups reads it.*segmenter\."):
        compose(["organ=retina", "organ.max_samples=100"])
    assert compose(["organ=lung", "organ.max_samples=100"]).unet().max_samples == 100


def fields(model: type[BaseModel]) -> set[str]:
    """Names of all settings below a group."""
    names: set[str] = set()
    for name, field in model.model_fields.items():
        inner = models(field.annotation)
        names |= {name} if not inner else {key for inner_field in inner for key in fields(inner_field)}
    return names


def test_every_key_of_the_schema_is_read_by_the_code() -> None:
    read: set[str] = set()
    for file in Path(medseg.__file__).parent.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                read.add(node.attr)
            if isinstance(node, ast.arg) and file.name != "settings.py":  # groups that are spread as arguments
                read.add(node.arg)
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and file.name != "settings.py":
                read.add(node.target.id)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                read.add(node.value)
    facts = set(OTHER)  # read by other groups, as tried above
    assert fields(Settings) - read - facts == set()
