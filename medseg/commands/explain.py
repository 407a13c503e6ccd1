"""What the codes in a case log mean, and the ways out: `medseg explain CODE`."""

from __future__ import annotations

from medseg.config.checks import did_you_mean
from medseg.errors import ConfigError
from medseg.utils.hints import with_hint

# code: what it means | the ways out | arguments that offer one, as `MedsegError.hint`
CODES: dict[str, str] = {
    "axes-oblique": "a volume to be moved by a breathing field has oblique axes|resample it to straight axes",
    "bias-failed": "the bias field could not be estimated|look at the image: it may be empty or all of one value; "
    "leave the step out with ~preprocess.bias",
    "image-blank": "a sequence shows nothing|look at the file; it may have been exported without pixels",
    "output-locked": "another medseg process writes to that output folder|wait for it to end, or choose another folder",
    "case-error": "this case failed in a way that nobody foresaw, in a library or by a bug|read the message; report it "
    "with the kind of file and what the screen showed; the other cases are not affected",
    "config": "the command line or a setting is wrong; nothing was done|the message names it and what is allowed",
    "constant-features": "no measure varies between the training cases|look at the masks: they may all be empty",
    "data": "a dataset cannot be used as a whole|run medseg data check FOLDER",
    "data-missing": "a header names a data file that is not beside it|copy both files together",
    "dicom-localizer": "a folder holds scout views only, which are no volume|copy the other series of the study too",
    "dicom-mixed": "files of one series differ in size, orientation or kind|keep one acquisition in the folder",
    "dicom-none": "a folder holds no readable DICOM image|name the folder with the slices",
    "dicom-pixel-spacing": "slices state no usable distance of their pixels|export the series again",
    "dicom-position": "slices carry no usable position or orientation|export the series again, once",
    "dicom-rescale": "the values of a CT are not known to be HU, or its slope is 0|export the series again from its "
    "source; secondary captures are no CT",
    "dicom-seg": "a DICOM SEG has no DICOM series to refer to, or one that it cannot refer to|choose another "
    "format|output_format",
    "dicom-series": "the series asked for is not there|the message lists those that are|series_uid",
    "dicom-several-series": "a folder holds several series|choose one by its UID|series_uid",
    "dicom-spacing": "slices are not evenly spaced, or lie at one place: one is missing or the series is mixed|export "
    "the series again",
    "dicom-tilt": "the gantry was tilted|correct the tilt with a DICOM tool, then convert",
    "error": "something can be mended|the message says what",
    "fail-fast": "not looked at, since an earlier case failed and the batch was to end then|run again "
    "without that|fail_fast=False",
    "features-missing": "a model reads measures that the table does not hold|measure with the features that the "
    "model was trained with (config.yaml of the run), or give images instead of a table",
    "few-patients": "too few patients of a class to calibrate out of fold|add cases, or use classifier=sequence_lstm",
    "field-empty": "no anatomy was found in the image|look at the image: empty, inverted, or of another kind",
    "field-grid": "a field mask lies on another grid than its image|resample one onto the other",
    "gpu-memory": "the GPU has too little free memory|end what else runs on it; train with a smaller "
    "segmenter.batch_size or segmenter.patch_size; segment on the processor|device=cpu",
    "grid-mismatch": "image and mask are not on one grid|resample the mask onto the image",
    "hair-dimension": "hair is looked for in pictures only|leave the step out with ~preprocess.hair",
    "image": "one image cannot be used|the message says why",
    "image-4d": "a sequence was given where one volume is needed|split it into frames, with a frame column",
    "image-channels": "the image has another number of channels than is needed|convert it to grey or RGB as the "
    "message says",
    "image-components": "a pixel has more values than expected|convert it to grey or RGB",
    "image-dimension": "a picture was given where a volume is needed, or the other way round|choose the organ's own "
    "kind of image",
    "image-empty": "a file holds no pixel|export it again",
    "image-excess": "compressed data hold far more than the header promises: damaged, or made to fill the disk|export "
    "it again from the source",
    "image-field": "no field of view was found|look at the image: black, or cropped inside the field",
    "image-frames": "the frames of a sequence do not fit together|export them with one size and spacing",
    "image-geometry": "image and mask differ in size or place|resample one onto the other",
    "image-grid": "the channels of a case lie on different grids|resample them onto the first",
    "image-levels": "the image shows fewer levels of brightness than there are tissues to tell apart|look at the "
    "image: blank, or a mask in place of an image; a U-Net needs no levels",
    "image-memory": "the image is larger than the free memory|crop or resample it, or use a larger machine",
    "image-missing": "a file is not there|compare the path in cases.csv with the folder",
    "image-name": "the name holds a line break or bytes that are no UTF-8|rename the file or its folder",
    "image-nan": "an image holds NaN or infinite values|replace them by background and save again",
    "image-negative": "values below 0 where none may be|shift or clip the image first",
    "image-pixels": "the format cannot hold these pixel values|choose another format|output_format",
    "image-range": "values lie outside of what the step expects|check the unit: HU, 0 to 1, or 0 to 255",
    "image-space": "the header's spacing, origin or axes are missing, not finite, not at right angles or contradict "
    "each other|correct the header, or export the image again",
    "image-suffix": "the ending is of no format that is read or written|medseg reads NIfTI, MHA/MHD, NRRD, DICOM, PNG, "
    "JPEG, TIFF and BMP",
    "image-truncated": "the file ends too early: a copy or download was cut off|copy it again from the source",
    "image-unreadable": "the content is no image of the kind that the ending says|open it with a viewer; export again",
    "image-write": "a mask could not be written|check free space and rights of the output folder",
    "gray-levels": "a texture was asked for with too few grey levels|raise bins, or lower bin_width",
    "review": "the diagnosis was made, but a person should look at the case|the message says why",
    "loss-not-finite": "the training loss became infinite or undefined; the weights of the last checkpoint are kept|"
    "look at the images that the message names; train in a new run_dir with a lower learning rate, or go on with "
    "resume=RUN compute.precision=32",
    "mask-colour": "a mask's colours are no label values|save it as label numbers, one channel",
    "mask-grid": "a mask does not lie on the grid of its image|resample one onto the other",
    "mask-label": "a mask holds values that no label has, or pixels to be ignored|say what they mean with "
    "data.mask_values",
    "mask-lung-missing": "a lung is missing in the mask that is to be moved|complete the mask",
    "mask-missing": "a case has no mask where one is needed|add it, or leave the case out",
    "mask-values": "a mask's values are no whole numbers from 0 to 255, or a file of one label holds several|save it "
    "as label numbers, or one label as 0 and 255",
    "feature-undefined": "a measure is undefined for this sequence|look at the images",
    "output-mixed": "the output folder holds results of other cases|choose another folder, or drop them|overwrite",
    "model": "a run folder is missing, incomplete or altered|copy the whole folder again, or train again",
    "no-sequence": "a single frame was given where a sequence is needed|give all frames, or data.time_axis",
    "not-a-picture": "these measures need a picture, not a volume|choose other features",
    "not-a-volume": "these measures need a volume, not a picture|choose other features",
    "not-grey": "these measures need a grey image|convert it, or choose other features",
    "no-prediction": "a true mask has no mask to be judged beside it|segment that image too",
    "no-truth": "a mask has no true mask to be judged by|leave it out, or draw one",
    "no-usable-case": "no case could be used|the ledger names the reason of each",
    "nothing-compared": "no mask could be compared with a truth|check that the two trees have the same names",
    "nyul-constant": "an image of one value cannot be standardised|look at the image",
    "one-class": "all cases to learn from have one class|add cases of another",
    "package-altered": "a model package is not as it was written: a byte differs, or a part is missing|copy it again "
    "from where it came",
    "package-schema": "a zip is no model package, or one of a newer format|make it with medseg model export, or "
    "install the newer medseg",
    "package-unsafe": "a model package holds what none needs: a pickle, a path outside, a link, foreign code|do not "
    "use it; ask who made it for another",
    "phantom-settings": "phantoms cannot be made with these settings|the message says which",
    "output": "a result cannot be written; what was there before is whole|make room, mend the rights of the folder, or "
    "choose another; the same command then goes on",
    "quality": "the mask was made, but the quality gate has doubts about the image|look at the image and its mask; "
    "limits are in configs/quality",
    "clinical-rule": "a clinical rule reads features that are not there|choose the organ's own features, or "
    "organ.clinical_rule=null",
    "in-training-set": "every model learnt from this image or its patient, so none can segment it out of fold|give a "
    "model of each fold; a column of patients tells whose an image is",
    "step-state": "a learnt step of the preprocessing lacks its state|copy the whole run folder",
    "step-unfitted": "a learnt step of the preprocessing was used before it learnt|train first",
    "too-large": "an image needs more memory than may be used, even with one tile at once|allow more, close other "
    "programs, cut the image, or train on a coarser grid (organ.spacing_mm)|max_ram",
    "table-invalid": "a table lacks a column or holds a row twice|the message names it",
    "worker-died": "one of several workers ended while it had this case: memory ran out, or a library crashed; another "
    "took its place|run again, with fewer workers where memory was short; does it die again, look at the image|workers",
}  # fmt: skip


def explain_code(code: str | None = None) -> str:
    """Meaning and ways out of a code, or of all, a line each; `ConfigError` with the nearest where there is none."""
    if code is None:
        return "\n".join(f"{name}: {text.partition('|')[0]}" for name, text in sorted(CODES.items()))
    if code not in CODES:
        raise ConfigError(f"{code}: no such code{did_you_mean(code, list(CODES))}")
    meaning, ways, *hints = CODES[code].split("|")
    return f"{code}: {meaning}.\nWays out: {with_hint(ways, ''.join(hints))}."
