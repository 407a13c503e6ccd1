"""Who may import whom: packages in one order, each sees only what stands behind it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "medseg"
# each level may import those after it; packages of one level never see each other
LEVELS = (
    {"__main__", "api"},
    {"cli"},
    {"commands"},
    {"training"},
    {"inference"},
    {"reports", "batch"},
    {"config"},
    {"runs"},
    {"diagnosis", "segmentation", "features", "quality"},
    {"evaluation"},
    {"preprocess"},
    {"datasets"},
    {"data"},
    {"io"},
    {"utils"},
    {"errors", "typing", "__init__"},
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Every module that a file imports, inside functions and under TYPE_CHECKING too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: import by the full name"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def starts(names: set[str], *prefixes: str) -> set[str]:
    return {name for name in names for p in prefixes if name == p or name.startswith(p + ".")}


def name_of(file: Path) -> str:
    return str(file.relative_to(PACKAGE).with_suffix(""))


def package_of(file: Path) -> str:
    return name_of(file).split("/")[0]


def packages(names: set[str]) -> set[str]:
    """Names of medseg's packages among imported modules; `import medseg` and `medseg.__version__` are the face."""
    parts = {name.split(".")[1] if "." in name else "__init__" for name in starts(names, "medseg")}
    return {"__init__" if part == "__version__" else part for part in parts}


def test_layers_every_package_has_a_level() -> None:
    assert {package_of(file) for file in FILES} <= set(LEVEL)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_layers_file_imports_only_levels_below(file: Path) -> None:
    own = package_of(file)
    face = {"api"} if own == "__init__" else set()  # the lazy names of `import medseg`
    for other in packages(imported(file)) - face:
        assert other == own or LEVEL[other] > LEVEL[own], f"{own} imports {other}"


def test_layers_modules_have_no_circle() -> None:
    modules = {"medseg." + name_of(file).replace("/", "."): file for file in FILES if file.name != "__init__.py"}
    arrows = {name: set(modules) & imported(file) - {name} for name, file in modules.items()}
    while leaves := [name for name, targets in arrows.items() if not targets & set(arrows)]:
        for name in leaves:
            del arrows[name]
    assert not arrows, f"in a circle, or above one: {sorted(arrows)}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_layers_front_library_has_one_user(file: Path) -> None:
    names, place = imported(file), name_of(file)
    owners = {"typer": "cli", "hydra": "config", "omegaconf": "config", "rich": "utils/console"}
    for library, owner in owners.items():
        assert place.startswith(owner) or not starts(names, library)
    assert not starts(names, "pickle", "joblib", "dill")


@pytest.mark.parametrize("file", [f for f in FILES if package_of(f) in ("features", "preprocess", "io")], ids=name_of)
def test_layers_images_and_features_need_no_torch(file: Path) -> None:
    assert not starts(imported(file), "torch", "pytorch_lightning", "torchmetrics")


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_layers_no_organ_is_named_outside_datasets(file: Path) -> None:
    if package_of(file) == "datasets" or name_of(file) == "cli/app":  # the command's examples name one
        return
    constants = [node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)]
    assert not [text for text in constants if text in ("brain", "retina", "skin", "lung", "breast")]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_layers_files_and_functions_stay_short(file: Path) -> None:
    text = file.read_text()
    if name_of(file) != "config/settings":  # one table of all settings, read from top to bottom
        assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno + 1 <= 40, f"{node.name} is longer than 40 lines"
