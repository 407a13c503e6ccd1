"""What segmenters without training share: the scene they look at, and how their answer becomes probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.io.geometry import from_array
from medseg.typing import BoolArray, Float32Array

Field = Callable[[sitk.Image], sitk.Image]
Appearance = dict[str, str | int]

BLUE = 2  # of RGB: melanin stands out most (FORMULAS of the field: Otsu on blue beats grey)
MIN_COMPONENT_FRACTION = 0.02  # of the largest: smaller connected components of a pair are noise


@dataclass(frozen=True)
class Scene:
    """One image, shrunken: `value` (Z, Y, X) is what is thresholded, `colours` (Z, Y, X, C), `field` where to look."""

    value: Float32Array
    colours: Float32Array
    field: BoolArray


class Classical:
    """A segmenter without training; a method fills in `region` and `tissues`.

    `intensity_rank` says how bright each label is: one label "dark" or "bright" against its surround; several of equal
    rank are the patient's sides, right first; ranks 1..K are tissues in order of brightness. Raises `ConfigError` with
    `classical_unsupported_reason` where the recipe states none.
    """

    def __init__(
        self,
        intensity_rank: Appearance | None,
        field: Field | None = None,
        classical_unsupported_reason: str = "",
        side: int = 256,
    ) -> None:
        name = type(self).__name__.lower()
        if not intensity_rank:
            raise ConfigError(f"segmenter={name} makes no sense here: {classical_unsupported_reason}; use a U-Net")
        kinds = set(intensity_rank.values())
        if kinds - {"dark", "bright"} and sorted(map(str, kinds)) != [str(n + 1) for n in range(len(intensity_rank))]:
            raise ConfigError(
                f"organ.intensity_rank={intensity_rank}: must be dark, bright, or the ranks 1, 2, 3 … of brightness"
            )
        self.intensity_rank, self.field, self.side = intensity_rank, field, side

    def predict(self, images: dict[str, sitk.Image]) -> Float32Array:
        """The first channel in 0..1, 2D or 3D → probabilities (K+1, Z, Y, X), background first."""
        image = next(iter(images.values()))
        scene, small = self._scene(image)
        if self.ranked:
            layers = self._ranked_layers(scene)
        else:
            dark = next(iter(self.intensity_rank.values())) == "dark"
            region = self.region(scene if dark else Scene(1 - scene.value, 1 - scene.colours, scene.field))
            layers = [region] if len(self.intensity_rank) == 1 else sides(region, small)
        foreground = [_enlarged(layer, small, image) for layer in layers]
        total = np.clip(sum(foreground), 0.0, 1.0)
        return np.stack([1 - total, *foreground]).astype(np.float32)

    @property
    def ranked(self) -> bool:
        """Whether the labels are tissues in order of brightness."""
        return not isinstance(next(iter(self.intensity_rank.values())), str)

    def region(self, scene: Scene) -> BoolArray:
        """Mask of the dark structure (Z, Y, X)."""
        raise NotImplementedError

    def tissues(self, scene: Scene, count: int) -> npt.NDArray[np.int64]:
        """0 outside the field, 1..count by rising brightness (Z, Y, X)."""
        raise NotImplementedError

    def _ranked_layers(self, scene: Scene) -> list[BoolArray]:
        ranks = self.tissues(scene, len(self.intensity_rank))
        return [np.asarray(ranks == rank) for rank in self.intensity_rank.values()]

    def _scene(self, image: sitk.Image) -> tuple[Scene, sitk.Image]:
        factor = max(1, -(-max(image.GetSize()[:2]) // self.side))
        factors = [factor, factor, *[1] * (image.GetDimension() - 2)]
        small = sitk.BinShrink(image, factors) if factor > 1 else image
        array = sitk.GetArrayFromImage(small).astype(np.float32)
        if small.GetNumberOfComponentsPerPixel() == 1:
            array = array[..., None]
        if small.GetDimension() == 2:
            array = array[None]  # (Z, Y, X, C)
        field = np.ones(array.shape[:3], np.bool_)
        if self.field is not None:
            visible = sitk.GetArrayFromImage(self.field(small)).reshape(array.shape[:3]) > 0
            field = visible if visible.any() else field
        value = array[..., BLUE] if array.shape[-1] > BLUE else array[..., 0]
        blur = 0.5 if self.ranked else 1.0  # tissues may be a voxel thick
        smooth = np.stack([ndimage.gaussian_filter(plane, blur) for plane in value])
        return Scene(smooth, array, field), small


def central_component(mask: BoolArray, centre: float) -> BoolArray:
    """The connected component of a 2D image (Y, X) with the largest weighted area; holes filled.

    Weights are a Gaussian about the image's centre, of σ = `centre` times half the image; 0: equal weights.
    Dermatologists centre the lesion.
    """
    numbers, count = ndimage.label(mask)
    if count == 0:
        return mask
    axes = [np.linspace(-1, 1, size) for size in mask.shape]
    distance = np.hypot(*np.meshgrid(*axes, indexing="ij"))
    weight = np.exp(-0.5 * (distance / centre) ** 2) if centre > 0 else np.ones(mask.shape)
    scores = np.bincount(numbers.ravel(), weight.ravel())
    scores[0] = 0
    return np.asarray(ndimage.binary_fill_holes(numbers == int(np.argmax(scores))))


def grown(mask: BoolArray, share: float) -> BoolArray:
    """Dilate a region by `share` of its diameter: annotators draw a soft border's outer edge, thresholds its middle."""
    steps = round(share * 2 * float(np.sqrt(mask.sum() / np.pi)))
    return np.asarray(ndimage.binary_dilation(mask, iterations=steps)) if steps else mask


def sides(region: BoolArray, image: sitk.Image) -> list[BoolArray]:
    """Split a region into right and left by its components' centres along the lateral axis (LPS: right is lower x)."""
    numbers, count = ndimage.label(region)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = [n for n in range(1, count + 1) if sizes[n] >= MIN_COMPONENT_FRACTION * sizes.max()]
    centres = {n: np.argwhere(numbers == n).mean(axis=0)[::-1] for n in keep}
    middle = _lateral(image, np.array(region.shape)[::-1] / 2 - 0.5)
    right, left = np.zeros_like(region), np.zeros_like(region)
    for n, centre in centres.items():
        (right if _lateral(image, centre) < middle else left)[numbers == n] = True
    if not right.any() or not left.any():  # fused: cut in the middle
        whole = right | left
        columns = np.arange(region.shape[2]) < region.shape[2] / 2
        low = whole & columns[None, None, :]
        return [low, whole & ~low] if image.GetDirection()[0] > 0 else [whole & ~low, low]
    return [right, left]


def _lateral(image: sitk.Image, index: npt.NDArray[np.float64]) -> float:
    point = image.TransformContinuousIndexToPhysicalPoint([float(v) for v in index[: image.GetDimension()]])
    return float(point[0])


def _enlarged(layer: BoolArray, small: sitk.Image, image: sitk.Image) -> Float32Array:
    """Resample a layer to the image's grid (Z, Y, X), with a soft border."""
    flat = image.GetDimension() == 2
    layer_image = from_array((layer[0] if flat else layer).astype(np.float32), small)
    border = [1] * image.GetDimension()
    reference = sitk.Image(image.GetSize(), sitk.sitkFloat32)
    reference.CopyInformation(image)
    padded = sitk.ZeroFluxNeumannPad(layer_image, border, border)
    array = sitk.GetArrayFromImage(sitk.Resample(padded, reference, sitk.Transform(), sitk.sitkLinear, 0.0))
    result: Float32Array = array[None] if flat else array
    return result
