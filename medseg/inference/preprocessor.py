"""Preprocessing from settings: every step on every channel, fitted on training cases if a step needs it."""

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

State = dict[str, dict[str, Any]]  # channel → step → fitted state


class Preprocessor:
    """The steps of `preprocess`, in order, on every channel; raw channels must be on one grid."""

    def __init__(self, config: Settings, state: State | None = None) -> None:
        self.channels = list(config.organ.channels)
        self.components = config.organ.colour_channels
        self.steps: dict[str, dict[str, Any]] = {
            channel: {name: build(step) for name, step in config.preprocess.items() if step is not None}
            for channel in self.channels
        }
        self.state: State = {}
        self._settings = [config.to_dict()["preprocess"], self.channels, _code()]
        for channel, step_states in (state or {}).items():
            for name, values in step_states.items():
                self._restore(channel, name, values)

    @property
    def settings(self) -> str:
        """Text that changes with everything the result depends on."""
        return json.dumps([*self._settings, self.state], sort_keys=True)

    def fit(self, cases: Callable[[], Iterable[Images]]) -> None:
        """Fit each step that needs it on the training cases after the steps before it."""
        for channel, steps in self.steps.items():
            earlier_steps: list[Any] = []
            for name, step in steps.items():
                if hasattr(step, "fit"):
                    images_before = (apply_steps(earlier_steps, images[channel]) for images in cases())
                    self._restore(channel, name, step.fit(images_before))
                earlier_steps.append(step)

    def _restore(self, channel: str, name: str, values: dict[str, Any]) -> None:
        self.steps[channel][name].restore(values)
        self.state.setdefault(channel, {})[name] = values

    def __call__(self, images: Images) -> Images:
        """Raw channels → channels in 0..1 on the network's grid; `ImageError` for a wrong number of colour channels."""
        ready: Images = {}
        first = next(iter(images.values()))
        for name, image in images.items():
            require_same_grid(image, first, f"channel {name} is not on the grid of the first", "", code="image-grid")
            ready[name] = apply_steps(self.steps[name].values(), image)
            components = ready[name].GetNumberOfComponentsPerPixel()
            if components != self.components:
                raise ImageError(
                    f"has {components} colour channels, but the model needs {self.components} ({name}); "
                    "give images of the kind it was trained on",
                    code="image-channels",
                )
        return _on_one_grid(ready)


def _on_one_grid(ready: Images) -> Images:
    """Resample channels to the grid of the first: the field of view is found in each, so crops may differ slightly."""
    first = next(iter(ready.values()))
    return {
        name: image if grid_difference(image, first) is None else sitk.Resample(image, first, sitk.Transform())
        for name, image in ready.items()
    }


def _code() -> str:
    """Digest of the steps' source code, so that a change invalidates the cache."""
    digest = hashlib.sha256()
    for file in sorted(Path(medseg.preprocess.__file__).parent.glob("*.py")):
        digest.update(bytes.fromhex(hash_path(file)))
    return digest.hexdigest()[:16]


def apply_steps(steps: Iterable[Any], image: sitk.Image) -> sitk.Image:
    """Apply steps to an image, in order."""
    for step in steps:
        image = step(image)
    return image
