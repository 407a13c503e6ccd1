"""`medseg plan`: plan a training for a dataset."""

from __future__ import annotations

from pathlib import Path

from medseg.config.components import check_components
from medseg.config.settings import Settings
from medseg.training.dataset import assign_splits, read_dataset, resolve_data_root
from medseg.training.planning import plan_dataset


def plan_settings(config: Settings, out: Path) -> None:
    """Plan for the dataset in the settings, read and split as `train` does."""
    check_components(config)
    root, _ = resolve_data_root(config)
    plan_dataset(config, assign_splits(config, read_dataset(config, root)), out)
