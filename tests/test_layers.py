"""Who may import whom, as CONTRIBUTING says."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "medseg"
TASKS = [
    "train",
    "reproduce",
    "train_segmenter",
    "train_diagnoser",
    "train_classifier",
    "associate",
    "batch",
    "folds",
    "masks",
    "measure",
    "choose",
    "plan",
    "package",
    "panel",
    "prepare",
    "segment",
    "extract",
    "diagnose",
    "evaluate",
    "report",
    "report_parts",
    "report_diagnosis",
    "report_sequences",
    "check",
    "doctor",
]
SIDES = ("segmentation", "features", "diagnosis")
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Every module that a file imports anywhere but under TYPE_CHECKING."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def starts(names: set[str], *prefixes: str) -> set[str]:
    return {name for name in names for p in prefixes if name == p or name.startswith(p + ".")}


def name_of(file: Path) -> str:
    return str(file.relative_to(PACKAGE).with_suffix(""))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_layer_sees_only_what_is_below(file: Path) -> None:
    names, place = imported(file), name_of(file)
    tasks = starts(names, "medseg.cli", *(f"medseg.{task}" for task in TASKS))
    if "/" in place:
        assert not tasks
        assert not starts(names, "medseg.config", "medseg.console", "medseg.runs", "medseg.lightning")
    side = place.split("/")[0]
    if side in SIDES:
        assert not starts(names, *(f"medseg.{other}" for other in SIDES if other != side))
    if side in ("preprocess", "data"):
        assert not starts(names, *(f"medseg.{other}" for other in SIDES))
    if side == "data":
        assert not starts(names, "medseg.preprocess")
    if place == "errors":
        assert not starts(names, "medseg")


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_each_front_library_has_one_user(file: Path) -> None:
    names, place = imported(file), name_of(file)
    for library, owner in {"typer": "cli", "hydra": "config", "omegaconf": "config", "rich": "console"}.items():
        assert place.split("_")[0] == owner or not starts(names, library)
    assert not starts(names, "pickle", "joblib", "dill")


@pytest.mark.parametrize("file", [f for f in FILES if name_of(f).startswith(("features/", "preprocess/"))], ids=name_of)
def test_features_and_preprocessing_need_no_torch(file: Path) -> None:
    assert not starts(imported(file), "torch", "pytorch_lightning", "torchmetrics")


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_organ_is_named_outside_phantoms_and_sources(file: Path) -> None:
    place = name_of(file)
    if place.startswith(("data/phantoms/", "data/sources/")) or place == "cli":  # the command's examples name one
        return
    constants = [node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)]
    assert not [text for text in constants if text in ("brain", "retina", "skin", "lung", "breast")]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_and_functions_stay_short(file: Path) -> None:
    text = file.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno + 1 <= 40, f"{node.name} is longer than 40 lines"
