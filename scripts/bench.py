"""Speed and memory on this machine: python scripts/bench.py.

Whole processes on synthetic data, three runs each after a warm-up; the median is shown, with the peak memory of the
process. Then a step of the U-Net as it is and as torch would do it by itself, in turns. Times on a shared machine are
noisy: compare ratios taken in one run, not single seconds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MEDSEG = str(Path(sys.executable).with_name("medseg"))
RUNS = 3


def timed(*words: str) -> tuple[float, float]:
    """Seconds and peak memory (MB) of one whole process."""
    started = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with status {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - started, usage.ru_maxrss / 1024


def show(name: str, *words: str, runs: int = RUNS) -> None:
    found = [timed(*words) for _ in range(runs + 1)][1:]
    seconds, memory = statistics.median(f[0] for f in found), max(f[1] for f in found)
    print(f"{name:<44} {seconds:8.2f} s {memory:8.0f} MB", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, run = str(folder / "data"), str(folder / "run")
        timed(MEDSEG, "data", "phantom", "lung", data, "--patients", "6")
        train = [
            MEDSEG,
            "train",
            "organ=lung",
            f"data.root={data}",
            f"data.cache={folder / 'cache'}",
            "segmenter.max_samples=400",
        ]
        timed(*train, f"run_dir={run}")
        show("medseg --help", MEDSEG, "--help")
        show("medseg train, a misspelt key", "sh", "-c", f"! {MEDSEG} train organ=lung trainer.max_tim=1")
        for precision in ("32", "auto"):
            words = [*train, f"compute.precision={precision}"]
            shell = f"rm -rf {folder}/again && exec {' '.join(words)} run_dir={folder}/again"
            show(f"medseg train, 400 passes, precision {precision}", "sh", "-c", shell, runs=1)
        images, out = f"{data}/images", str(folder / "out")
        show("medseg segment, 1 CT", MEDSEG, "segment", images, out, "--model", run, "--glob", "lung000*")
        show("medseg segment, 6 CT", MEDSEG, "segment", images, out, "--model", run)
    steps()


def steps() -> None:
    """A training step and a prediction of the 2D and 3D U-Net on a processor, beside torch's own layout and norm."""
    import torch

    from medseg.segmentation.losses import DiceCrossEntropy
    from medseg.utils.devices import autocast, set_num_threads

    set_num_threads("auto")
    for dimensions, shape in ((2, (4, 3, 256, 256)), (3, (2, 1, 32, 96, 96))):
        image, target = torch.rand(shape), torch.zeros(shape[0], *shape[2:], dtype=torch.long)
        networks = {"ours": unet(dimensions, shape[1], ours=True), "torch's": unet(dimensions, shape[1], ours=False)}
        for precision in ("32", "auto"):
            found: dict[str, list[float]] = {}
            for _ in range(6):
                for name, network in networks.items():
                    started = time.monotonic()
                    with autocast(precision, torch.device("cpu")):
                        logits = network.train()(image)
                    DiceCrossEntropy()(logits, target).backward()
                    found.setdefault(f"train {name}", []).append(time.monotonic() - started)
                    started = time.monotonic()
                    with autocast(precision, torch.device("cpu")), torch.inference_mode():
                        network.eval()(image)
                    found.setdefault(f"predict {name}", []).append(time.monotonic() - started)
            for what in ("train", "predict"):
                mine, other = (statistics.median(found[f"{what} {name}"][1:]) for name in networks)
                name = f"U-Net in {dimensions}D, {what}, precision {precision}"
                print(f"{name:<44} {mine:8.3f} s, torch's layout {other:.3f} s, {other / mine:.2f} times", flush=True)


def unet(dimensions: int, channels: int, ours: bool) -> Any:
    """A U-Net; else with torch's instance normalisation, in torch's layout."""
    from torch import nn

    from medseg.segmentation.unet import InstanceNorm, UNet

    class Plain(UNet):
        def arranged(self, x: Any) -> Any:
            return x

    network = (UNet if ours else Plain)(channels, 2, dimensions=dimensions, depth=4 if dimensions == 2 else 3)
    if ours:
        return network
    network.settle("cuda")
    for module in list(network.modules()):
        for name, part in module.named_children():
            if isinstance(part, InstanceNorm):
                norm = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dimensions]
                setattr(module, name, norm(len(part.weight), affine=True))
    return network


if __name__ == "__main__":
    main()
