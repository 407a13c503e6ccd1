"""Where and how it is computed: device, precision, threads."""

from __future__ import annotations

import os
import platform
import warnings
from typing import Any

import psutil
import SimpleITK as sitk
import torch
from threadpoolctl import threadpool_limits

from medseg.errors import ConfigError

MAX_LOADERS = 6  # two feed slices to an H100; volumes take longer to cut and vary


def set_num_threads(setting: int | str) -> int:
    """Give torch its threads: `setting`, or with "auto" the number of idle cores; returns the number."""
    count = int(setting) if setting != "auto" else free_cores()
    torch.set_num_threads(count)
    return count


def num_loaders(setting: int | str, device: torch.device) -> int:
    """Processes that prepare batches: `setting`, or with "auto" up to 6 for a GPU, else none."""
    if setting != "auto":
        return int(setting)
    return 0 if device.type == "cpu" else min(MAX_LOADERS, len(_allowed_cores()) - 1)


def divide_threads(processes: int) -> int:
    """Give torch, ITK, BLAS and OpenMP the threads of one of `processes` that share the cores; returns the number.

    OpenCV computes in the calling thread anyway.
    """
    count = max(1, len(_allowed_cores()) // processes)
    torch.set_num_threads(count)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    threadpool_limits(count)
    return count


def free_cores() -> int:
    """Cores this process may use that are idle now, at least one."""
    busy = psutil.cpu_percent(interval=0.2, percpu=True)
    return max(1, sum(busy[core] < 60 for core in _allowed_cores() if core < len(busy)))


def _allowed_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))  # macOS and Windows do not say


def select_device(accelerator: str) -> torch.device:
    """The device that `compute.accelerator` means here."""
    if accelerator not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"compute.accelerator={accelerator!r}: must be auto, cpu or cuda")
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("compute.accelerator=cuda: torch finds no GPU (medseg doctor); use cpu or auto")
    if accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")


def describe_machine(accelerator: str, precision: Any) -> dict[str, str]:
    """Device, precision, threads and system, which results may depend on: for a run's manifest."""
    device = select_device(accelerator)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "device": f"{device.type} {name}",
        "precision": str(select_precision(precision, device)),
        "threads": str(torch.get_num_threads()),
        "system": f"{platform.system()} {platform.machine()}",
    }


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bf16; emulated bf16 is slower than 32 bit."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    is_supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(is_supported())


def select_precision(setting: Any, device: torch.device) -> Any:
    """Lightning's name of the precision that `compute.precision` means on this device."""
    if str(setting) == "auto":
        return "bf16-mixed" if has_bf16(device) else "32-true"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[str(setting)]


def autocast(setting: Any, device: torch.device) -> torch.autocast:
    """The context a network predicts in."""
    name = str(select_precision(setting, device))
    kind = torch.float16 if name.startswith("16") and device.type == "cuda" else torch.bfloat16
    return torch.autocast(device.type, dtype=kind, enabled="mixed" in name)


def quiet_libraries() -> None:
    """Silence library messages that do not concern a user of medseg."""
    import logging

    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # few workers are our choice: patches come from a memory map
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    warnings.filterwarnings("ignore", message=".*but have no `val_dataloader`.*")
    # our sampler knows where to go on
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
