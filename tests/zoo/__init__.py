"""A zoo of good and bad files, made by code: `python -m tests.zoo FOLDER`. What must come of each stands beside it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.zoo import dicoms, pictures, volumes
from tests.zoo.kind import Specimen
from tests.zoo.pictures_bad import BAD_PICTURES
from tests.zoo.places import PLACES
from tests.zoo.volumes_bad import BAD_VOLUMES

# folder: what is in it; pictures go through one model, volumes through another; Windows has no such places
ZOO: dict[str, list[Specimen]] = {
    "pictures": [*pictures.RIGHT, *pictures.ODD, *BAD_PICTURES, *(PLACES if os.name != "nt" else [])],
    "volumes": [*volumes.GOOD, *volumes.ODD, *BAD_VOLUMES, *dicoms.RIGHT, *dicoms.ERRORS, *dicoms.ODD],
}


def make_zoo(root: Path, slow: bool = True) -> None:
    """Make every specimen below `root`, those that take long only with `slow`."""
    for name, specimens in ZOO.items():
        (root / name).mkdir(parents=True)
        for specimen in specimens:
            if slow or not specimen.slow:
                specimen.make(root / name / specimen.name)
