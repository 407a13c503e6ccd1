"""A model goes out as one file and comes back the same; what a stranger put into it neither runs nor reads anything."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import SimpleITK as sitk
import yaml

import medseg as package
from medseg.commands.model_package import describe_model, export_model, import_model, verify_model
from medseg.config.compose import compose
from medseg.errors import ConfigError, ModelError
from medseg.io.image import read_image, write_image
from medseg.runs.archive import MANIFEST, pack
from medseg.runs.run import PACKAGE_FILES, open_run
from medseg.training.train import train
from tests.conftest import picture, posix

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def rule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of patients with names, and the run of a segmenter that needs no training."""
    folder = tmp_path_factory.mktemp("clinic_of_dr_x")
    for number in range(6):
        image, mask = picture(number)
        write_image(image, folder / "images" / f"MUELLER_ANNA_{number}.png")
        write_image(mask, folder / "masks" / f"MUELLER_ANNA_{number}.png")
    overrides = [
        "organ=breast",
        "segmenter=otsu",
        f"data.root={folder}",
        f"data.cache={folder / 'c'}",
        "data.n_folds=2",
    ]
    train(compose([*overrides, f"run_dir={folder / 'run'}"]))
    return folder / "run"


@pytest.fixture
def packed(rule: Path, tmp_path: Path) -> Path:
    return export_model(open_run(rule), tmp_path / "model.zip")


def contents(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forged(file: Path, change: dict[str, bytes]) -> Path:
    """A package with other contents whose hashes are all right."""
    files = {name: content for name, content in (contents(file) | change).items() if name != MANIFEST}
    manifest = json.loads(contents(file)[MANIFEST])
    manifest["sha256"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest["bytes"] = {name: len(content) for name, content in files.items()}
    target = file.with_name("forged.zip")
    target.write_bytes(pack({**files, MANIFEST: json.dumps(manifest).encode()}))
    return target


def test_export_repeated_or_after_import_gives_equal_bytes(rule: Path, packed: Path, tmp_path: Path) -> None:
    assert export_model(open_run(rule), tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    run = import_model(packed, tmp_path / "deep" / "folder")
    assert export_model(run, tmp_path / "third.zip").read_bytes() == packed.read_bytes()
    assert set(contents(packed)) <= PACKAGE_FILES


def test_export_contains_no_names_or_paths(rule: Path, packed: Path) -> None:
    folder = rule.parent
    assert b"MUELLER" in (rule / "split.csv").read_bytes()
    for name, content in contents(packed).items():
        assert b"MUELLER" not in content, name
        assert b"ANNA" not in content, name
        assert str(folder).encode() not in content, name
    table = pd.read_csv(folder / "run" / "split.csv")
    rows = list(csv.DictReader(contents(packed)["split.csv"].decode().splitlines()))
    assert {row["patient"] for row in rows} == {f"patient_{n:04d}" for n in range(1, 7)}
    sides = {hashlib.sha256(Path(p).read_bytes()).hexdigest(): s for p, s in zip(table.image, table.split, strict=True)}
    assert {row["sha256"]: row["split"] for row in rows} == sides


def test_package_sides_equal_those_of_its_run(rule: Path, packed: Path, tmp_path: Path) -> None:
    assert open_run(packed).sides() == open_run(rule).sides() != {}
    moved = tmp_path / "moved"
    shutil.copytree(rule, moved)
    table = pd.read_csv(moved / "split.csv").assign(image="/nowhere/x.png")
    table.to_csv(moved / "split.csv", index=False)
    with pytest.raises(ModelError, match="training cases cannot be recognised"):
        type(open_run(packed))(moved).sides()


def test_segment_with_package_in_new_process_gives_equal_masks(
    medseg: Command, packed: Path, rule: Path, tmp_path: Path
) -> None:
    images = rule.parent / "images"
    assert medseg("segment", images, tmp_path / "here", "--model", rule).status == 0
    there = tmp_path / "elsewhere"
    there.mkdir()
    shutil.copy(packed, there / "got it.zip")
    shutil.copytree(images, there / "images")
    temporary = there / "tmp"
    temporary.mkdir()
    fresh = {"HOME": str(there), "PATH": os.defpath, "TMPDIR": str(temporary)}
    fresh["PYTHONPATH"] = str(Path(package.__file__).parent.parent)
    command = [sys.executable, "-m", "medseg", "segment", "images", "out", "--model", "got it.zip"]
    done = subprocess.run(command, cwd=there, env=fresh, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    masks = sorted((tmp_path / "here").glob("*.png"))
    assert len(masks) == 6
    for mask in masks:
        assert (there / "out" / mask.name).read_bytes() == mask.read_bytes()
    assert not list(temporary.iterdir()), "the unpacked package was left behind"


def test_segment_with_zip_and_import_gives_equal_masks(
    medseg: Command, segmenter: Path, cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "unet.zip"
    assert medseg("model", "export", segmenter, out, "--licence", "CC-BY-4.0").status == 0
    assert medseg("model", "import", out, tmp_path / "imported").status == 0
    image = sorted((cohort / "images").iterdir())[0]
    for name, model in {"a": segmenter, "b": out, "c": tmp_path / "imported"}.items():
        assert medseg("segment", image, tmp_path / name, "--model", model).status == 0
    first, *others = (read_image(next((tmp_path / name).glob("*.nii.gz"))) for name in "abc")
    assert sitk.GetArrayViewFromImage(first).any()
    for other_folder in others:
        assert (sitk.GetArrayFromImage(other_folder) == sitk.GetArrayFromImage(first)).all()
        assert other_folder.GetDirection() == first.GetDirection()
    names = [path.name for path in (tmp_path / "imported").iterdir()]
    assert "checkpoints" not in names
    assert "predictions" not in names


def test_diagnose_with_package_works(medseg: Command, classifier_run: Path, breathing: Path, tmp_path: Path) -> None:
    out = tmp_path / "breath.zip"
    assert medseg("model", "export", classifier_run, out).status == 0
    for name, model in {"a": classifier_run, "b": out}.items():
        assert medseg("diagnose", breathing, tmp_path / f"{name}.csv", "--model", model).status == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert medseg("report", out).status == 0
    assert (tmp_path / "breath.html").is_file()


def test_segment_with_packages_compared_and_out_of_fold(
    medseg: Command, packed: Path, rule: Path, tmp_path: Path
) -> None:
    twin = shutil.copy(packed, tmp_path / "twin.zip")
    images = rule.parent / "images"
    assert medseg("segment", images, tmp_path / "both", "--model", packed, "--model", twin).status == 0
    assert {path.name for path in (tmp_path / "both").iterdir() if path.is_dir()} == {"model", "twin"}
    result = medseg("segment", images, tmp_path / "fold", "--model", packed, "--out-of-fold")
    assert result.status == 3
    codes = pd.read_csv(tmp_path / "fold" / "cases.csv")["code"].dropna()
    assert list(codes.unique()) == ["in-training-set"]
    assert str(packed) in (tmp_path / "fold" / "provenance.csv").read_text()


def test_model_show_and_verify_describe_the_package(medseg: Command, packed: Path, rule: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("Use it well.\n")
    assert medseg("model", "export", rule, tmp_path / "l.zip", "--licence", tmp_path / "own.txt").status == 0
    assert contents(tmp_path / "l.zip")["LICENCE.txt"] == b"Use it well.\n"
    again = export_model(open_run(tmp_path / "l.zip"), tmp_path / "l2.zip")
    assert again.read_bytes() == (tmp_path / "l.zip").read_bytes()
    facts = json.loads(medseg("model", "show", packed, "--json").out)
    assert (facts["organ"], facts["licence"], facts["labels"]) == ("breast", "unspecified", {"tumour": 1})
    assert "licence: see LICENCE.txt" in medseg("model", "show", tmp_path / "l.zip").out
    assert "Research use only" in medseg("model", "show", packed).out
    for model in (packed, rule):
        result = medseg("model", "verify", model)
        assert result.status == 0
        assert "verified (hashes, no pickle, no foreign code): config.yaml" in result.out
    assert describe_model(open_run(packed))["scores"].keys() == {"tumour"}


def test_export_and_import_refuse_before_writing(rule: Path, packed: Path, tmp_path: Path) -> None:
    run = open_run(rule)
    with pytest.raises(ConfigError, match=r"a package is a \.zip"):
        export_model(run, tmp_path / "model.tar")
    with pytest.raises(ConfigError, match="identifier"):
        export_model(run, tmp_path / "m.zip", " ")
    with pytest.raises(ModelError, match="no such package"):
        import_model(tmp_path / "nowhere.zip", tmp_path / "x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        import_model(packed, tmp_path / "full")
    assert not (tmp_path / "m.zip").exists()


def test_verify_of_altered_import_is_refused(packed: Path, tmp_path: Path) -> None:
    run = import_model(packed, tmp_path / "run")
    run.file("candidates.json").write_text("{}")
    with pytest.raises(ModelError, match="was added"):
        open_run(run.path)
    run.file("candidates.json").unlink()
    manifest = run.read_json(MANIFEST)
    manifest["sha256"]["../../etc/hostname"] = "0"
    run.file(MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="lists files that no run has"):
        open_run(run.path)


def test_import_with_dots_in_names_stays_in_folder(packed: Path, tmp_path: Path) -> None:
    odd = shutil.copy(packed, tmp_path / "...zip")
    assert open_run(odd).path.name == "model"


ATTACKS = {
    "a command": ("preprocess.evil", {"_target_": "os.system", "_args_": ["touch {}"]}),
    "nested in a list": ("quality.evil", {"_target_": "medseg.quality.image_checks.Blank", "least": [
        {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": ["{}"]}]}]}),
    "a partial": ("postprocess.evil", {"_target_": "os.system", "_partial_": True, "command": "touch {}"}),
    "our own function": ("preprocess.evil", {
        "_target_": "medseg.utils.files.atomic_write_text", "path": "{}", "text": "x"}),
    "a function beside our classes": ("segmenter.model", {
        "_target_": "medseg.datasets.phantoms.breast.make_cohort",
        "folder": "{}", "patients": 1, "seed": 1, "frames": 1}),
    "through an import of ours": ("segmenter.model", {
        "_target_": "medseg.segmentation.classical.base.np.savetxt", "fname": "{}", "X": [1]}),
    "the command line": ("preprocess.evil", {"_target_": "medseg.cli.app.main"}),
    "build itself": ("preprocess.evil", {"_target_": "medseg.config.compose.build", "node": {
        "_target_": "os.system", "_args_": ["touch {}"]}}),
    "a logger": ("preprocess.evil", {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": "{}"}),
    "the environment": ("organ.name", "${{oc.env:SECRET}}"),
    "the environment, once more": ("segmenter.model.opening", "\\${{oc.env:SECRET}}"),
    "hydra": ("organ.name", "${{hydra:runtime.cwd}}"),
    "a missing value": ("organ.channels", "???"),
}  # fmt: skip


def filled(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {key: filled(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, text) for item in value]
    return value.format(text) if isinstance(value, str) else value


@pytest.mark.parametrize("attack", ATTACKS)
def test_open_of_hostile_settings_runs_nothing(
    medseg: Command, packed: Path, rule: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    monkeypatch.setenv("SECRET", "0.123456")
    hacked = tmp_path / "hacked"
    where, value = ATTACKS[attack]
    settings = yaml.safe_load(contents(packed)["config.yaml"])
    *parents, last = where.split(".")
    node = settings
    for name in parents:
        node = node[name]
    node[last] = filled(value, str(hacked))
    model = forged(packed, {"config.yaml": yaml.safe_dump(settings).encode()})
    for command in (["model", "verify", model], ["model", "import", model, tmp_path / "in"],
                    ["segment", rule.parent / "images", tmp_path / "out", "--model", model]):  # fmt: skip
        result = medseg(*command)
        assert result.status == 2, result.err
        assert "0.123456" not in result.err
    assert not hacked.exists()
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize(
    "text",
    [
        "preprocess: !!python/object/apply:os.system ['touch hacked']\n",
        "a: &a [1, 1]\nb: &b [*a, *a]\norgan: *b\n",
        "- 1\n",
        "a: [1\n",
        "",
        "task: segmentation\n",
        "\0",
    ],
)
def test_open_of_invalid_settings_names_the_file(
    medseg: Command, packed: Path, rule: Path, tmp_path: Path, text: str
) -> None:
    model = forged(packed, {"config.yaml": text.encode()})
    result = medseg("segment", rule.parent / "images", tmp_path / "out", "--model", model)
    assert result.status == 2, result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.safetensors", b"no tensors", "cannot be read"),
        ("ensemble.skops", b"PK no zip", "cannot be read"),
        ("metrics.json", b"{", "not JSON"),
        ("fingerprint.json", b"[" * 100_000, "not JSON"),
    ],
)
def test_verify_of_mismatched_members_is_refused(packed: Path, name: str, content: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        verify_model(open_run(forged(packed, {name: content})))


def test_verify_of_hostile_ensemble_is_refused(packed: Path, tmp_path: Path) -> None:
    from skops.io import dumps

    class Foreign:
        pass

    with pytest.raises(ModelError, match="Foreign"):
        verify_model(open_run(forged(packed, {"ensemble.skops": dumps({"format": 1, "members": [Foreign()]})})))
    bomb = tmp_path / "bomb"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 10_000_000)
    with pytest.raises(ModelError, match="claim to be 10000000"):
        verify_model(open_run(forged(packed, {"ensemble.skops": bomb.read_bytes()})))


def test_segment_resumes_with_the_package_of_its_run(medseg: Command, rule: Path, packed: Path, tmp_path: Path) -> None:
    """The same model, whatever it is called; out of fold it is another, whose table names others."""
    images, out = rule.parent / "images", tmp_path / "out"
    assert medseg("segment", images, out, "--model", rule, "-q").status == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    moved = packed.rename(tmp_path / "another name.zip")
    for model in (moved, import_model(moved, tmp_path / "imported").path):
        assert medseg("segment", images, out, "--model", model, "-q").status == 0
        assert {path: path.stat().st_mtime_ns for path in out.glob("*.png")} == before
    assert len(before) == 6
    (tmp_path / "held").mkdir()
    for name in pd.read_csv(rule / "split.csv").query("split == 'test'")["image"]:
        shutil.copy(name, tmp_path / "held")
    for model in (rule, moved):
        words = ["--model", model, "--out-of-fold", "-q"]
        assert medseg("segment", tmp_path / "held", tmp_path / "held_out", *words).status == 0
        provenance = pd.read_csv(tmp_path / "held_out" / "provenance.csv")
        assert set(provenance["model"]) == {str(model)}


@posix
def test_open_run_removes_unpacked_folders_of_killed_processes(packed: Path, tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from medseg.runs.run import open_run
run = open_run(Path(sys.argv[1]))
print(run.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, str(packed)], capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    left = Path(killed.stdout.strip())
    assert left.is_dir()
    tempfile.tempdir = str(tmp_path)
    try:
        package = open_run(packed)
        two = open_run(packed)
    finally:
        tempfile.tempdir = None
    assert not left.parent.exists()
    assert package.path.is_dir()  # it is held
    folders = [package.path.parent, two.path.parent]
    del package, two
    assert not any(folder.exists() for folder in folders)


def test_reproduce_of_package_is_refused_by_name(medseg: Command, packed: Path, rule: Path, tmp_path: Path) -> None:
    result = medseg("diagnose", rule.parent / "images", tmp_path / "d.csv", "--model", packed)
    assert result.status == 2
    assert f"{packed}: a model for task=segmentation" in result.err
    assert not list(tmp_path.glob("d*"))
    folder = import_model(packed, tmp_path / "imported").path
    for model in (packed, folder):
        result = medseg("reproduce", model, f"data.root={rule.parent}", "--out", tmp_path / "again")
        assert result.status == 2
        assert f"{model}: is an imported package with anonymised cases" in result.err
        assert not (tmp_path / "again").exists()
