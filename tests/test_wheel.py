"""What is installed is what stands here: configs and templates are in the wheel, and it works from there."""

import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import medseg
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    code = f"import os; os.chdir({str(ROOT)!r}); from hatchling.build import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_every_config_and_template_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in (ROOT / "configs").rglob("*.yaml"):
        if file.parent.name != "local":
            assert f"medseg/configs/{file.relative_to(ROOT / 'configs')}" in names
    for file in (ROOT / "medseg").rglob("*"):
        if file.suffix in (".py", ".j2"):
            assert str(file.relative_to(ROOT)) in names


def test_wheel_version_and_metadata_are_the_projects(wheel: Path) -> None:
    (name,) = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA")]
    metadata = message_from_bytes(zipfile.ZipFile(wheel).read(name))
    assert metadata["Version"] == medseg.__version__
    assert metadata["Author"] == "The medseg developers"
    assert metadata["Keywords"]
    assert "Programming Language :: Python :: 3.13" in metadata.get_all("Classifier", [])


def test_show_works_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import medseg; from medseg.cli.app import main; print(medseg.__file__); main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "config", "organ=lung"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert "name: lung" in done.stdout
