"""Preprocessing as a recipe states it: every step on every channel, fitted on training cases where a step learns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import SimpleITK as sitk

import medseg.preprocess
from medseg.config.components import build
from medseg.config.settings import Settings
from medseg.errors import ImageError
from medseg.io.geometry import grid_difference, require_same_grid
from medseg.typing import Images
from medseg.utils.files import hash_path

State = dict[str, dict[str, Any]]  # channel → step → what it learnt


class Preprocessor:
    """The steps of `preprocess`, in their order, on every channel; raw channels must lie on one grid."""

    def __init__(self, config: Settings, state: State | None = None) -> None:
        self.channels = list(config.organ.channels)
        self.components = config.organ.colour_channels
        self.steps: dict[str, dict[str, Any]] = {
            channel: {name: build(step) for name, step in config.preprocess.items() if step is not None}
            for channel in self.channels
        }
        self.state: State = {}
        self._settings = [config.to_dict()["preprocess"], self.channels, _code()]
        for channel, learnt in (state or {}).items():
            for name, values in learnt.items():
                self._restore(channel, name, values)

    @property
    def settings(self) -> str:
        """Text that changes whenever the result of the steps would."""
        return json.dumps([*self._settings, self.state], sort_keys=True)

    def fit(self, cases: Callable[[], Iterable[Images]]) -> None:
        """Let each step that learns see the training cases as the steps before it leave them."""
        for channel, steps in self.steps.items():
            before: list[Any] = []
            for name, step in steps.items():
                if hasattr(step, "fit"):
                    seen = (apply_steps(before, images[channel]) for images in cases())
                    self._restore(channel, name, step.fit(seen))
                before.append(step)

    def _restore(self, channel: str, name: str, values: dict[str, Any]) -> None:
        self.steps[channel][name].restore(values)
        self.state.setdefault(channel, {})[name] = values

    def __call__(self, images: Images) -> Images:
        """Raw channels → channels in 0..1 on the network's grid; raises `ImageError` for a wrong channel count."""
        ready: Images = {}
        first = next(iter(images.values()))
        for name, image in images.items():
            require_same_grid(
                image, first, f"channel {name} does not lie on the grid of the first", "", code="image-grid"
            )
            ready[name] = apply_steps(self.steps[name].values(), image)
            found = ready[name].GetNumberOfComponentsPerPixel()
            if found != self.components:
                raise ImageError(
                    f"has {found} colour channels where the model takes {self.components} ({name}); "
                    "give it images such as it was trained on",
                    code="image-channels",
                )
        return _on_one_grid(ready)


def _on_one_grid(ready: Images) -> Images:
    """Channels on the grid of the first: a field is found in each by itself, so that crops may differ a little."""
    first = next(iter(ready.values()))
    return {
        name: image if grid_difference(image, first) is None else sitk.Resample(image, first, sitk.Transform())
        for name, image in ready.items()
    }


def _code() -> str:
    """Digest of the steps' own code: what was cached by another version of it is made anew."""
    digest = hashlib.sha256()
    for file in sorted(Path(medseg.preprocess.__file__).parent.glob("*.py")):
        digest.update(bytes.fromhex(hash_path(file)))
    return digest.hexdigest()[:16]


def apply_steps(steps: Iterable[Any], image: sitk.Image) -> sitk.Image:
    """What steps make of an image, one after the other."""
    for step in steps:
        image = step(image)
    return image
