"""Write a mask as a standard DICOM Segmentation that refers to its source slices.

The file belongs to the study of its images: their UIDs and positions are copied, as references need them. Patient data
and dates are blank by default; then equal masks of equal images give equal files, as in other formats.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk
from pydicom.uid import PYDICOM_ROOT_UID, UID, generate_uid
from pydicom.valuerep import format_number_as_ds

from medseg import __version__
from medseg.errors import ImageError
from medseg.io.dicom.header import is_uid, read_header
from medseg.io.dicom.series import series_stacks
from medseg.io.dicom.stack import SliceStack
from medseg.io.labels import Labels

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom.sr.coding import Code

SUFFIX = ".seg.dcm"
REFERENCED = [  # tags that a reference needs
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "Rows",
    "Columns", "NumberOfFrames", "ImageType", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
]  # fmt: skip
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
IDENTITY = [  # tags of patient and study that the standard requires, possibly blank
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
]  # fmt: skip
TISSUE = "85756007 Tissue"  # category of a label without a code
NO_DATE, NO_TIME = "19000101", "000000"  # a SEG needs a date and time
MAX_LABEL_LENGTH = 64  # characters, by DICOM


@dataclass(frozen=True)
class Origin:
    """Source series and model of a mask, and whether to copy patient data.

    slices: the headers of the series, if already read.
    """

    folder: Path
    series: str | None
    model: str
    keep_identity: bool = False
    slices: SliceStack | None = None

    def with_slices(self) -> Origin:
        """Return a copy with the headers read. Raises as `stack`."""
        return replace(self, slices=self.stack())

    def stack(self) -> SliceStack:
        """The slices in the order of the mask's. Raises ImageError dicom-seg if a SEG cannot refer to them."""
        if self.slices is not None:
            return self.slices
        if not self.folder.is_dir():
            raise self.refusal("a DICOM SEG needs DICOM source slices, and this is not a DICOM folder")
        stacks = series_stacks(self.folder, self.series)
        first = stacks[0].slices[0]
        if len(stacks) > 1:
            raise self.refusal(f"series {first.name} has {len(stacks)} time points, a DICOM SEG covers one")
        if first.index is not None and len(stacks[0].files) > 1:
            raise self.refusal(f"series {first.name} has several enhanced images, a DICOM SEG refers to one")
        if not first.space:
            raise self.refusal(f"series {first.name} states no frame of reference, which a DICOM SEG needs")
        return stacks[0]

    def refusal(self, reason: str) -> ImageError:
        """Make the error of a mask that cannot be a DICOM SEG."""
        return ImageError(f"{self.folder}: {reason}; choose another format", code="dicom-seg", hint="output_format")


def write_seg(coded: sitk.Image, target: Path, labels: Labels, origin: Origin) -> None:
    """Write a coded mask (X, Y, Z), on the grid of the series, to `target`, atomically.

    Each label is a binary segment with the label's number. Raises ImageError: dicom-seg, image-write.
    """
    segmentation = _segmentation(coded, labels, origin)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as folder:
            draft = Path(folder) / target.name
            with draft.open("wb") as file:
                pydicom.dcmwrite(file, segmentation, enforce_file_format=True)
                file.flush()
                os.fsync(file.fileno())
            read_header(draft)  # a full disk does not always raise an error
            draft.replace(target)
    except (OSError, ImageError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it was cut off"  # pydicom changes some messages
        raise ImageError(
            f"{target}: could not be written: {reason}; check free space and permissions", code="image-write"
        ) from None


def _segmentation(coded: sitk.Image, labels: Labels, origin: Origin) -> pydicom.Dataset:
    from highdicom.seg import Segmentation

    stack = origin.stack()
    sources = [_source(path, coded, origin) for path in stack.files]
    if coded.GetSize()[2] != len(stack.slices):
        raise origin.refusal(f"series {stack.slices[0].name} changed during segmentation")
    pixels = _frames(coded, labels, stack)
    series, instance, dimensions = _uids(sources, pixels, labels, origin)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote header values
        try:
            segmentation = Segmentation(
                source_images=sources,
                pixel_array=pixels,
                segmentation_type="BINARY",
                segment_descriptions=[_description(name, labels, origin) for name in labels.numbers],
                series_instance_uid=series,
                sop_instance_uid=instance,
                series_number=1000,
                instance_number=1,
                manufacturer="medseg",
                manufacturer_model_name="medseg",
                software_versions=__version__,
                device_serial_number="0",
                series_description="medseg segmentation, research use only",
                content_label="SEGMENTATION",
                omit_empty_frames=bool(pixels.any()),
            )
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            reason = f"series {stack.slices[0].name} cannot be referenced ({type(error).__name__})"
            raise origin.refusal(reason) from None  # the cause may quote the header
    return _finished(segmentation, dimensions, origin.keep_identity)


def _uids(
    sources: Sequence[pydicom.Dataset], pixels: npt.NDArray[np.uint8], labels: Labels, origin: Origin
) -> list[UID]:
    """UIDs of the new series, instance and dimensions: the same for the same content."""
    content = [str(source.SOPInstanceUID) for source in sources] + [origin.model, __version__]
    content += [*labels.numbers, *map(str, labels.codes.items())]
    content.append(hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest())
    if origin.keep_identity:
        content.append(datetime.now(UTC).isoformat())  # these files state their time, so that no two are equal
    return [generate_uid(PYDICOM_ROOT_UID, [purpose, *content]) for purpose in ("series", "instance", "dimensions")]


def _source(path: Path, coded: sitk.Image, origin: Origin) -> pydicom.Dataset:
    """The header of a source without pixels, on the grid of the mask; patient data are not read unless wanted."""
    tags = [*REFERENCED, *IDENTITY, "SpecificCharacterSet"] if origin.keep_identity else list(REFERENCED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote header values
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        if not all(is_uid(str(data.get(name, ""))) for name in UIDS):
            raise origin.refusal("the series has invalid UIDs")
        for name in IDENTITY:
            setattr(data, name, str(data.get(name) or ""))
    data.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    across, down, gap = map(format_number_as_ds, coded.GetSpacing())
    pixel_measures = pydicom.Dataset()
    pixel_measures.PixelSpacing, pixel_measures.SliceThickness, pixel_measures.SpacingBetweenSlices = (
        [down, across],
        gap,
        gap,
    )
    if "SharedFunctionalGroupsSequence" in data:
        data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = [pixel_measures]
    else:
        data.update(pixel_measures)
    return data


def _frames(coded: sitk.Image, labels: Labels, stack: SliceStack) -> npt.NDArray[np.uint8]:
    """Pixels in the order of the source's frames: label numbers (Z, Y, X), or 0 and 1 (Z, Y, X, K) of each label."""
    array: npt.NDArray[np.uint8] = sitk.GetArrayFromImage(coded)  # (Z, Y, X)
    if not labels.exclusive:
        array = np.stack([labels.layer(array, name) for name in labels.numbers], axis=-1).astype(np.uint8)
    if stack.slices[0].index is None:
        return array
    reordered = np.zeros_like(array)  # an enhanced image has its own order of frames
    for item, mask_slice in zip(stack.slices, array, strict=True):
        reordered[item.index] = mask_slice
    return reordered


def _description(name: str, labels: Labels, origin: Origin) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    category, type_code = _snomed(TISSUE), Code(name[:16], "99MEDSEG", name[:MAX_LABEL_LENGTH])
    if name in labels.codes:
        category, type_code = map(_snomed, labels.codes[name])
    return SegmentDescription(
        segment_number=labels.numbers[name],
        segment_label=name[:MAX_LABEL_LENGTH],
        segmented_property_category=category,
        segmented_property_type=type_code,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=f"medseg {origin.model}"[:MAX_LABEL_LENGTH],
            family=codes.DCM.ArtificialIntelligence,
            version=__version__,
        ),
    )


def _snomed(text: str) -> Code:
    from pydicom.sr.coding import Code

    number, _, meaning = text.partition(" ")
    return Code(number, "SCT", meaning)


def _finished(segmentation: pydicom.Dataset, dimensions: str, keep_identity: bool) -> pydicom.Dataset:
    """Set the dimension UIDs; without identity also remove dates and state the de-identification."""
    for sequence in (segmentation.DimensionOrganizationSequence, segmentation.DimensionIndexSequence):
        for item in sequence:
            item.DimensionOrganizationUID = dimensions
    segmentation.ContentCreatorName = ""  # required by the standard
    if not keep_identity:
        del segmentation.InstanceCreationDate, segmentation.InstanceCreationTime
        for item in segmentation.ContributingEquipmentSequence:
            item.pop("ContributionDateTime", None)
        segmentation.ContentDate, segmentation.ContentTime = NO_DATE, NO_TIME
        segmentation.PatientIdentityRemoved = "YES"
        segmentation.DeidentificationMethod = "medseg: patient, study and dates blank, UIDs kept"
        segmentation.LongitudinalTemporalInformationModified = "REMOVED"
    return segmentation
