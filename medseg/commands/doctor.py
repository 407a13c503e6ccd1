"""`medseg doctor`: check the installation and describe the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil

import psutil
import torch

from medseg import __version__
from medseg.config.compose import config_dir, group_choices
from medseg.runs.run import PACKAGES
from medseg.utils.console import say, table, warn
from medseg.utils.devices import free_cores, has_bf16

MIN_MEMORY_GB, MIN_DISK_GB = 4.0, 2.0  # below, training or caching may fail


def check_installation() -> int:
    """Print the findings; return 1 if there are problems, else 0."""
    memory = psutil.virtual_memory().available / 1e9
    disk = shutil.disk_usage(".").free / 1e9
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = [
        ["medseg", __version__],
        ["Python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"],
        *[[name, importlib.metadata.version(name)] for name in PACKAGES],
        ["processor", f"{os.cpu_count()} cores, {free_cores()} free now, {torch.backends.cpu.get_cpu_capability()}"],
        ["memory", f"{memory:.1f} GB available"],
        ["disk here", f"{disk:.1f} GB free"],
        ["GPU", torch.cuda.get_device_name() if device.type == "cuda" else "none, the CPU is used"],
        ["bf16", "yes" if has_bf16(device) else "no, 32 bit is used"],
        ["configs", f"{config_dir()}: organs {', '.join(group_choices()['organ'])}"],
    ]
    table("medseg doctor", ["item", "value"], rows)
    problems = []
    if memory < MIN_MEMORY_GB:
        problems.append(
            f"only {memory:.1f} GB of memory is available; close other programs or use smaller segmenter.batch_size"
        )
    if disk < MIN_DISK_GB:
        problems.append(f"only {disk:.1f} GB of disk is free here; point data.cache and run_dir elsewhere")
    if not os.access(".", os.W_OK):
        problems.append("this folder cannot be written; set run_dir and data.cache to other folders")
    for problem in problems:
        warn(problem)
    say("no problems" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0
