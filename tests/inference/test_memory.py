"""The memory estimate of a case is within a factor of 1.5 of its peak, and tiles are chosen to fit."""

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medseg.config.compose import compose
from medseg.config.load import to_yaml
from medseg.data.cases import Case
from medseg.errors import ImageError
from medseg.inference import memory
from medseg.inference.segmenter import Segmenter, make_network
from medseg.io.header import read_image_header
from medseg.runs.run import Run, create, open_run
from medseg.utils.files import atomic_write_text, write_json

Command = Callable[..., Any]
FIVE = """# @package _global_
defaults: [{override /preprocess: ct}, {override /postprocess: keep_largest_component}]
organ:
  name: five
  channels: [ct]
  labels: {a: 1, b: 2, c: 3, d: 4, e: 5}
  phantom: {_target_: medseg.datasets.phantoms.lung.make_cohort, size: tiny}
"""
SMALL = ["segmenter.network.width=4", "segmenter.network.depth=2", "compute=cpu", "compute.num_threads=1"]


def random_run(folder: Path, *overrides: str) -> Run:
    """A run folder of an untrained U-Net with five labels, sharp enough to find all of them."""
    (folder / "configs" / "organ").mkdir(parents=True, exist_ok=True)
    (folder / "configs" / "organ" / "five.yaml").write_text(FIVE)
    config = compose(["organ=five", *SMALL, *overrides], folder / "configs")
    run = create(str(folder / "run"), "five")
    atomic_write_text(run.file("config.yaml"), to_yaml(config))
    torch.manual_seed(1)
    network = make_network(config)
    with torch.no_grad():
        network.heads[0].weight *= 6
    run.save_weights(network.state_dict())
    write_json(run.file("labels.json"), dict(config.organ.labels))
    for name in ("preprocess.json", "fingerprint.json"):
        write_json(run.file(name), {})
    run.seal(datetime.now(UTC))
    return open_run(run.path)


def write_ct(path: Path, size: tuple[int, int, int], spacing: tuple[float, float, float]) -> Path:
    """Smooth blobs in 16-bit integers: air to bone."""
    grain = min(16, min(size) // 4)
    noise = np.random.default_rng(0).normal(size=[count // grain for count in size[::-1]]).astype(np.float32)
    blobs = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(noise), 1.0)
    blobs = sitk.Cast(blobs / float(np.std(sitk.GetArrayViewFromImage(blobs))) * 400 - 300, sitk.sitkInt16)
    image = sitk.Expand(blobs, [grain] * 3)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


# a process's peak counts what its parent held when it was made: pytest may hold more than the command takes
MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak_and_estimate(image: Path, out: Path, run: Run, *options: str) -> tuple[float, float]:
    """Peak GB of `medseg segment` in a new process, and its estimate before."""
    words = [sys.executable, "-m", "medseg", "segment", str(image), str(out), "--model", str(run.path), *options]
    done = subprocess.run([sys.executable, "-c", MEASURE, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    estimate = re.search(r"memory: about ([\d.]+) GB", done.stderr)
    assert estimate is not None, done.stderr
    return int(done.stdout) * 1024 / 1e9, float(estimate[1])


@pytest.mark.parametrize(
    "overrides",
    [
        ["organ.spacing_mm=[4,4,4]", "segmenter.patch_size=[64,64]"],
        pytest.param(
            ["segmenter.patch_size=[256,256]", "segmenter.network.width=16", "postprocess=none"],
            marks=pytest.mark.torture,
        ),
        [
            "segmenter=unet3d",
            "segmenter.patch_size=[64,64,32]",
            "segmenter.network.width=8",
            "organ.spacing_mm=[2,2,2]",
        ],
    ],
    ids=["coarse", "large-tiles", "3d"],
)
def test_memory_estimate_matches_peak(tmp_path: Path, overrides: list[str]) -> None:
    run = random_run(tmp_path, *overrides)
    peak, estimate = peak_and_estimate(
        write_ct(tmp_path / "ct.mha", (256, 256, 160), (1.0, 1.0, 1.0)), tmp_path / "out", run
    )
    assert peak / 1.5 < estimate < peak * 1.5, (peak, estimate)


@pytest.mark.torture
def test_mean_of_three_models_takes_the_memory_of_one(tmp_path: Path) -> None:
    run = random_run(tmp_path, "organ.spacing_mm=[4,4,4]", "segmenter.patch_size=[64,64]")
    image = write_ct(tmp_path / "ct.mha", (256, 256, 160), (1.0, 1.0, 1.0))  # probabilities of 0.21 GB
    options = ("--average", "--probabilities", "--uncertainty")
    one, estimate = peak_and_estimate(image, tmp_path / "one", run, *options)
    assert one / 1.5 < estimate < one * 1.5, (one, estimate)
    others = [word for _ in range(2) for word in ("--model", str(run.path))]
    three, _ = peak_and_estimate(image, tmp_path / "three", run, *others, *options)
    assert three < one + 0.1, (one, three)


def test_kept_volumes_are_in_the_estimate(tmp_path: Path) -> None:
    model = Segmenter.from_run(random_run(tmp_path, "segmenter.patch_size=[32,32]"), "cpu")
    header = read_image_header(write_ct(tmp_path / "ct.mha", (64, 64, 32), (1.0, 1.0, 1.0)))
    assert header is not None
    without, kept = (memory.estimate_memory(model, {"ct": header}, count) for count in (0, 6))
    assert kept.bytes(1) - without.bytes(1) == 6 * 4 * 64 * 64 * 32


@pytest.mark.torture
@pytest.mark.parametrize(
    "overrides",
    [
        ["organ.spacing_mm=[6,6,6]", "segmenter.patch_size=[64,64]"],
        ["postprocess=none", "segmenter.patch_size=[512,512]", "segmenter.network.width=2"],
    ],
    ids=["with-rules", "on-its-own-grid"],
)
def test_512_512_800_with_five_labels_fits_into_three_gigabytes(tmp_path: Path, overrides: list[str]) -> None:
    run = random_run(tmp_path, *overrides)
    peak, estimate = peak_and_estimate(
        write_ct(tmp_path / "ct.mha", (512, 512, 800), (0.8, 0.8, 1.0)), tmp_path / "out", run
    )
    assert peak <= 3.0
    assert peak / 1.5 < estimate < peak * 1.5, (peak, estimate)


@pytest.mark.parametrize("orientation", ["LPS", "ASR", "RIP"])
@pytest.mark.parametrize("spacing", ["[3,2,null]", "[null,null,4]"])
def test_the_grid_is_known_from_the_header(tmp_path: Path, orientation: str, spacing: str) -> None:
    model = Segmenter.from_run(random_run(tmp_path, f"organ.spacing_mm={spacing}"), "cpu")
    image = sitk.ReadImage(str(write_ct(tmp_path / "ct.mha", (64, 48, 32), (1.1, 0.9, 2.5))))
    image = sitk.DICOMOrient(image, orientation)
    sitk.WriteImage(image, str(tmp_path / "turned.nii.gz"))
    header = read_image_header(tmp_path / "turned.nii.gz")
    assert header is not None
    assert header.bytes == 64 * 48 * 32 * 2
    ready = model.prepare({"ct": image})["ct"]
    assert memory._prepared(model.prepare.steps["ct"].values(), header) == ready.GetSize()


def test_read_image_header_of_2d_images_and_other_files(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((20, 30, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "p.png"))
    header = read_image_header(tmp_path / "p.png")
    assert header is not None
    assert (header.size, header.values, header.bytes) == ((30, 20), 3, 1800)
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    assert read_image_header(tmp_path / "broken.nii.gz") is None
    (tmp_path / "empty").mkdir()
    assert read_image_header(tmp_path / "empty") is None


def test_tiles_are_halved_until_they_fit_and_the_mask_stays(tmp_path: Path) -> None:
    run = random_run(tmp_path, "segmenter.patch_size=[32,32]", "segmenter.predict.batch_size=16")
    model = Segmenter.from_run(run, "cpu")
    path = write_ct(tmp_path / "ct.mha", (64, 64, 32), (1.0, 1.0, 1.0))
    case = Case("ct", "ct", {"ct": path})
    header = read_image_header(path)
    assert header is not None
    need = memory.estimate_memory(model, {"ct": header})
    assert need.tiles(need.bytes(16) + 1) == 16
    assert need.tiles(need.bytes(5)) == 4
    assert need.tiles(need.bytes(1) - 1) is None
    assert memory.choose_tiling({"": model}, case, memory.process_rss() + need.bytes(5) + 50e6) in (4, 8, 16)
    image = {"ct": sitk.ReadImage(str(path))}
    few, many = (sitk.GetArrayFromImage(model.segment(image, tiles)[0]) for tiles in (3, None))
    assert (few == many).mean() > 0.9999


def test_too_large_is_one_error_with_numbers_and_ways_out(medseg: Command, tmp_path: Path) -> None:
    run = random_run(tmp_path, "segmenter.patch_size=[32,32]")
    path = write_ct(tmp_path / "ct.mha", (64, 64, 32), (1.0, 1.0, 1.0))
    result = medseg("segment", path, tmp_path / "out", "--model", run.path, "--max-ram", "0.1")
    assert result.status == 1
    assert "0.1 GB may be used" in result.err
    assert "--max-ram" in result.err
    assert "too-large" in (tmp_path / "out" / "cases.csv").read_text()
    with pytest.raises(ImageError, match="even with one tile"):
        memory.choose_tiling({"": Segmenter.from_run(run, "cpu")}, Case("ct", "ct", {"ct": path}), 1e6)


def test_cgroup_limit_of_container_and_cluster_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, own = tmp_path / "cgroup", tmp_path / "own"
    assert memory.cgroup_limit(groups, own) == np.inf
    (groups / "slurm/job_7/step_0").mkdir(parents=True)
    (groups / "slurm/job_7/step_0/memory.max").write_text("max\n")
    (groups / "slurm/job_7/memory.max").write_text("3000000000\n")
    own.write_text("0::/slurm/job_7/step_0\n")
    assert memory.cgroup_limit(groups, own) == 3e9
    (groups / "memory.max").write_text("2000000000\n")
    assert memory.cgroup_limit(groups, own) == 2e9
    (groups / "memory/docker/c0").mkdir(parents=True)  # version 1
    (groups / "memory/docker/c0/memory.limit_in_bytes").write_text("1000000000\n")
    (groups / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    own.write_text("5:cpu,cpuacct:/docker/c0\n4:memory:/docker/c0\n0::/\n")
    assert memory.cgroup_limit(groups, own) == 1e9
    monkeypatch.setattr(memory, "cgroup_limit", lambda: 1e9)
    assert memory.memory_limit(None) == memory.FREE_FRACTION * 1e9
    assert memory.memory_limit(5) == 5e9
