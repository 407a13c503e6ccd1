"""A zoo of good and bad files, made by code: `python -m tests.zoo FOLDER`. What must come of each stands beside it."""

from __future__ import annotations

from pathlib import Path

from tests.zoo.dicoms import DICOMS
from tests.zoo.kind import Specimen
from tests.zoo.pictures import PICTURES
from tests.zoo.places import PLACES
from tests.zoo.volumes import VOLUMES

# folder: what is in it; pictures go through one model, volumes through another
ZOO: dict[str, list[Specimen]] = {"pictures": [*PICTURES, *PLACES], "volumes": [*VOLUMES, *DICOMS]}


def make_zoo(root: Path, slow: bool = True) -> None:
    """Make every specimen below `root`, those that take long only with `slow`."""
    for name, specimens in ZOO.items():
        (root / name).mkdir(parents=True)
        for specimen in specimens:
            if slow or not specimen.slow:
                specimen.make(root / name / specimen.name)
