"""The Python face: from an image to a mask, features and a diagnosis.

>>> from medseg import load_model, segment, extract_features, diagnose, evaluate   # doctest: +SKIP
>>> lungs = load_model("runs/lungs")                                               # doctest: +SKIP
>>> mask = segment("scan.nii.gz", lungs)                                           # doctest: +SKIP

An image is a path, a `SimpleITK.Image`, or a NumPy array of shape ([Z,] Y, X) or (Y, X, 3) with `spacing` in mm, x
first. Messages go to `logging.getLogger("medseg")`. Research use only: not a medical device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import SimpleITK as sitk

from medseg.config.features import feature_settings, features_for_labels
from medseg.config.load import load
from medseg.errors import ConfigError, ImageError
from medseg.evaluation.overlap import compare_masks
from medseg.evaluation.predictions import to_table
from medseg.features.tables import Tables
from medseg.inference.case_classifier import CaseClassifier
from medseg.inference.encoder import DeepFeatures, open_encoder
from medseg.inference.extractor import Extractor
from medseg.inference.open_classifier import open_classifier
from medseg.inference.segmenter import Segmenter
from medseg.io.geometry import grid_difference
from medseg.io.image import read_image, read_mask
from medseg.io.labels import Labels
from medseg.runs.run import open_run
from medseg.utils.devices import set_num_threads

Image: TypeAlias = str | Path | sitk.Image | npt.NDArray[Any]


# what nobody stated of an image in memory
UNKNOWN_FACTS = ["case", "patient", "label", "signal", "time"]


class Model:
    """A trained model: what `load_model` gives.

    task: "segmentation" or "diagnosis"; organ; channels; labels (name → number); classes of a diagnosis.
    """

    def __init__(self, path: Path, device: str) -> None:
        run = open_run(path)
        self.settings = load(run.file("config.yaml"))
        set_num_threads(self.settings.compute.num_threads)
        organ = self.settings.organ
        self.task, self.organ, self.channels = self.settings.task, organ.name, tuple(organ.channels)
        self.labels, self.classes = dict(organ.labels), tuple(organ.classes)
        self._run = run  # a package stays unpacked as long as its run is kept
        self._segmenter = Segmenter.from_run(run, device) if self.task == "segmentation" else None
        self._classifier = open_classifier(run, self.settings) if self.task == "diagnosis" else None

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter; `ConfigError` for a model of another task."""
        if self._segmenter is None:
            raise ConfigError(f"this model is for a diagnosis ({self.organ}); segment() takes one for segmentation")
        return self._segmenter

    @property
    def classifier(self) -> CaseClassifier:
        """The classifier; `ConfigError` for a model of another task."""
        if self._classifier is None:
            raise ConfigError(f"this model is for segmentation ({self.organ}); diagnose() takes one for a diagnosis")
        return self._classifier

    @cached_property
    def encoder(self) -> DeepFeatures | None:
        """What deep features of a diagnosis are read with; None if it has none."""
        return open_encoder(self.settings, self._run) if self.task == "diagnosis" else None

    def __repr__(self) -> str:
        names = self.classes if self.task == "diagnosis" else tuple(self.labels)
        return f"Model(organ={self.organ!r}, task={self.task!r}, {', '.join(names)})"


def load_model(path: str | Path, device: str = "auto") -> Model:
    """Load a run folder or a model package (.zip) on `device` auto, cpu or cuda. Nothing is unpickled.

    Raises `ModelError` where the folder is incomplete or altered.
    """
    return Model(Path(path), device)


def segment(image: Image | Mapping[str, Image], model: Model, *, spacing: Sequence[float] | None = None) -> sitk.Image:
    """The label mask of an image (uint8) on its own grid; `model.labels` names the numbers.

    image: one image, or for a model of several channels a mapping channel → image on one grid. spacing: mm (x, y[, z])
    of arrays. Labels that may overlap are coded in bits. Raises `ImageError` for an image that the model cannot take.
    """
    given = image if isinstance(image, Mapping) else {model.channels[0]: image}
    if set(given) != set(model.channels):
        raise ConfigError(
            f"the model takes the channels {', '.join(model.channels)}, not {', '.join(map(str, given))}; give "
            "{channel: image, …} with these names"
        )
    images = {channel: _as_image(given[channel], spacing) for channel in model.channels}
    return model.segmenter(images)


def extract_features(
    image: Image,
    mask: Image,
    labels: Mapping[str, int] | Model,
    *,
    features: str | None = None,
    spacing: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Features of an image inside its mask: a row a frame, which is the image, a slice or a step in time.

    labels: names and numbers in the mask, or the model that made it. features: a choice of the group `features`, such
    as radiomics; None: that of the organ with these labels. Column names are label.feature.
    """
    return _tables(image, mask, _labels(labels), features, spacing).frames.drop(columns=["case", "patient", "label"])


def diagnose(
    image: Image, model: Model, *, mask: Image | None = None, segmenter: Model | None = None,
    spacing: Sequence[float] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Diagnose an image with a classifier: a row a case or frame.

    mask: of the labels that the model was trained with; or segmenter: the model that makes it. Columns: predicted,
    p_<class> (calibrated probabilities), prediction_set, abstain, explanation, review. Raises `ConfigError` where
    neither mask nor segmenter is given and the features need one.
    """
    classifier = model.classifier
    if mask is None and segmenter is not None:
        mask = segment(image, segmenter, spacing=spacing)
    settings = model.settings
    labels = Labels(model.labels, settings.organ.exclusive_labels)
    extractor = Extractor(settings.features, labels, settings.data.time_axis, encoder=model.encoder)
    if mask is None and extractor.needs_masks:
        raise ConfigError("this model reads features inside masks: give mask=… or segmenter=…")
    ready = _as_image(image, spacing)
    tables = extractor.of_image(ready, None if mask is None else _as_mask(mask, ready, spacing))
    return to_table(classifier.predict(tables).withheld()).drop(columns=UNKNOWN_FACTS, errors="ignore")


def evaluate(
    mask: Image,
    reference: Image,
    labels: Mapping[str, int] | Model | None = None,
    *,
    tolerance_mm: float = 3.0,
    spacing: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Compare a mask with the reference: a row a label with dice, iou, hd95_mm and nsd (surface Dice).

    A missed label scores 0; one empty in both has None. tolerance_mm: of surfaces, for nsd. labels: names and numbers;
    None: every number above 0 in the reference. Of a single label any one number counts, such as 255. Raises
    `ImageError` where the two do not lie on one grid, or hold a number that is not a label.

    >>> import numpy as np
    >>> a = np.zeros((4, 8, 8), np.uint8); a[:, 2:6, 2:6] = 1
    >>> float(evaluate(a, a, {"organ": 1}, spacing=(1, 1, 2)).loc["organ", "dice"])
    1.0
    """
    truth = _as_image(reference, spacing, mask=True)
    predicted = _as_mask(mask, truth, spacing)
    numbers = _labels(labels).numbers if labels is not None else _numbers(truth)
    truth, predicted = _coded(truth, numbers, "reference"), _coded(predicted, numbers, "mask")
    return pd.DataFrame(compare_masks(predicted, truth, numbers, tolerance_mm)).set_index("label")


def _numbers(mask: sitk.Image) -> dict[str, int]:
    values = np.unique(sitk.GetArrayViewFromImage(mask))
    return {str(value): int(value) for value in values if value > 0}


def _coded(mask: sitk.Image, numbers: Mapping[str, int], role: str) -> sitk.Image:
    """The mask in the labels' numbers; of a single label, 255 or any other one number becomes the label's."""
    unknown = sorted(set(_numbers(mask).values()) - set(numbers.values()))
    if not unknown:
        return mask
    if len(numbers) == 1 and _numbers(mask).keys() == {str(unknown[0])}:
        (number,) = numbers.values()
        return sitk.Cast(mask == unknown[0], sitk.sitkUInt8) * number
    raise ImageError(
        f"the {role} holds {unknown[:5]}, which are not among the labels {dict(numbers)}; give labels={{name: number}}",
        code="mask-values",
    )


def _labels(labels: Mapping[str, int] | Model) -> Labels:
    if isinstance(labels, Model):
        return Labels(labels.labels, labels.settings.organ.exclusive_labels)
    return Labels(dict(labels))


def _tables(image: Image, mask: Image, labels: Labels, features: str | None, spacing: Sequence[float] | None) -> Tables:
    extractor = Extractor(feature_settings(features or features_for_labels(labels.numbers)), labels)
    ready = _as_image(image, spacing)
    return extractor.of_image(ready, _as_mask(mask, ready, spacing))


def _as_mask(mask: Image, image: sitk.Image, spacing: Sequence[float] | None) -> sitk.Image:
    """A mask on the image's grid; an array takes the place of the image."""
    if isinstance(mask, np.ndarray):
        ready = _as_image(mask, image.GetSpacing()[: mask.ndim], mask=True)
        if ready.GetSize() == image.GetSize():
            ready.CopyInformation(image)
    else:
        ready = _as_image(mask, spacing, mask=True)
    if difference := grid_difference(ready, image):
        raise ImageError(f"the mask does not lie on the grid of the image: {difference}", code="mask-grid")
    return ready


def _as_image(image: Image, spacing: Sequence[float] | None, mask: bool = False) -> sitk.Image:
    if isinstance(image, sitk.Image):
        return image
    if isinstance(image, str | Path):
        return read_mask(Path(image)) if mask else read_image(Path(image))
    array = np.asarray(image)
    colour = array.ndim == 3 and array.shape[-1] == 3 and not mask
    dimension = array.ndim - colour
    if dimension not in (2, 3):
        raise ImageError(
            f"an array of shape {array.shape} is no image: give ([Z,] Y, X) or (Y, X, 3)", code="image-dimension"
        )
    if dimension == 3 and spacing is None:
        raise ImageError(
            "an array of a volume has no spacing: give spacing=(x, y, z) in mm, or a SimpleITK image",
            code="image-space",
        )
    sides = [1.0] * dimension if spacing is None else [float(side) for side in spacing]
    if len(sides) != dimension or not all(side > 0 and np.isfinite(side) for side in sides):
        raise ImageError(
            f"spacing={tuple(sides)} does not fit an image of {dimension} axes: give {dimension} numbers above 0, "
            "in mm, x first",
            code="image-space",
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    ready = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=colour)
    ready.SetSpacing(sides)
    return ready
