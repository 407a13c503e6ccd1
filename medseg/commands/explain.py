"""`medseg explain CODE`: the meaning of the codes in a case log, and how to solve the problem."""

from __future__ import annotations

from medseg.config.checks import did_you_mean
from medseg.errors import ConfigError
from medseg.utils.hints import with_hint

# code: meaning | what to do | arguments that solve it, as `MedsegError.hint`
CODES: dict[str, str] = {
    "axes-oblique": "a volume to be warped by a breathing field has oblique axes|resample it to straight axes",
    "bias-failed": "the bias field could not be estimated|check the image: it may be empty or constant; "
    "disable the step with ~preprocess.bias",
    "image-blank": "a sequence is blank|check the file; it may have been exported without pixels",
    "output-locked": "another medseg process writes to the output folder|wait for it to end, or choose another folder",
    "case-error": "unexpected error in medseg or a library|read the message; report it with the kind of file and the "
    "printed output; the other cases are not affected",
    "config": "the command line or a setting is invalid; nothing was done|the message names it and what is allowed",
    "constant-features": "all features are constant over the training cases|check the masks: they may all be empty",
    "data": "a dataset cannot be used as a whole|run medseg data check FOLDER",
    "data-missing": "a header names a data file that is not in its folder|copy both files together",
    "dicom-localizer": "a folder contains only scout views, not a volume|copy the other series of the study too",
    "dicom-mixed": "files of one series differ in size, orientation or kind|keep one acquisition in the folder",
    "dicom-none": "a folder contains no readable DICOM image|give the folder with the slices",
    "dicom-pixel-spacing": "slices have no valid pixel spacing|export the series again",
    "dicom-position": "slices have no valid position or orientation|export the series again, once",
    "dicom-rescale": "the values of a CT may not be HU, or its slope is 0|export the series again from its "
    "source; secondary captures are not CT",
    "dicom-seg": "a DICOM SEG has no DICOM series to refer to, or one that it cannot refer to|choose another "
    "format|output_format",
    "dicom-series": "the requested series does not exist|the message lists the series in the folder|series_uid",
    "dicom-several-series": "a folder contains several series|choose one by its UID|series_uid",
    "dicom-spacing": "slices are not evenly spaced or have the same position: one is missing, or the series is mixed|"
    "export the series again",
    "dicom-tilt": "the gantry was tilted|correct the tilt with a DICOM tool, then convert",
    "error": "an error that can be corrected|the message says how",
    "expected-dice": "a mask is doubtful: its expected Dice, calibrated on held-out cases, is below "
    "segmenter.predict.min_expected_dice of the model|look at the mask and correct it; uncertainty.csv has the values",
    "fail-fast": "not processed, because an earlier case failed and the batch stops at the first failure|run again "
    "without that option|fail_fast=False",
    "features-missing": "a model needs features that the table lacks|extract the features that the "
    "model was trained with (config.yaml of the run), or give images instead of a table",
    "few-patients": "too few patients of a class for cross-validated calibration|add cases, or use "
    "classifier=sequence_lstm",
    "field-empty": "no anatomy was found in the image|check the image: empty, inverted, or of another kind",
    "field-grid": "a field-of-view mask is on another grid than its image|resample one onto the other",
    "gpu-memory": "the GPU has too little free memory|end other programs that use it; train with a smaller "
    "segmenter.batch_size or segmenter.patch_size; segment on the CPU|device=cpu",
    "grid-mismatch": "image and mask are not on one grid|resample the mask onto the image",
    "hair-dimension": "hair removal needs a 2D image|disable the step with ~preprocess.hair",
    "image": "one image cannot be used|the message says why",
    "image-4d": "a sequence was given but one volume is needed|split it into frames, with a frame column",
    "image-channels": "the image does not have the required number of channels|convert it to grey or RGB as the "
    "message says",
    "image-components": "a pixel has more values than expected|convert it to grey or RGB",
    "image-dimension": "a 2D image was given but a volume is needed, or the other way round|choose images of the "
    "organ's kind",
    "image-empty": "a file has no pixels|export it again",
    "image-excess": "compressed data expand to far more than the header states: damaged, or made to fill the disk|"
    "export it again from the source",
    "image-field": "no field of view was found|check the image: black, or cropped inside the field of view",
    "image-frames": "the frames of a sequence do not fit together|export them with one size and spacing",
    "image-geometry": "image and mask differ in size or position|resample one onto the other",
    "image-grid": "the channels of a case are on different grids|resample them onto the first",
    "image-levels": "the image has fewer intensity levels than tissues to segment|check the "
    "image: blank, or a mask instead of an image; a U-Net needs no levels",
    "image-memory": "the image is larger than the free memory|crop or resample it, or use a larger machine",
    "image-missing": "a file does not exist|compare the path in cases.csv with the folder",
    "image-name": "the name contains a line break or bytes that are not UTF-8|rename the file or its folder",
    "image-nan": "an image contains NaN or infinite values|replace them by background and save again",
    "image-negative": "the image has negative values, which are not allowed here|shift or clip the image first",
    "image-pixels": "the format cannot store these pixel values|choose another format|output_format",
    "image-range": "values are outside the range that the step expects|check the unit: HU, 0 to 1, or 0 to 255",
    "image-space": "the header's spacing, origin or axes are missing, not finite, not orthogonal or contradict "
    "each other|correct the header, or export the image again",
    "image-suffix": "the suffix belongs to no supported format|medseg reads NIfTI, MHA/MHD, NRRD, DICOM, PNG, "
    "JPEG, TIFF and BMP",
    "image-truncated": "the file ends too early: a copy or download was cut off|copy it again from the source",
    "image-unreadable": "the content is not an image of the kind that the suffix states|open it with a viewer; export "
    "it again",
    "image-write": "a mask could not be written|check free space and permissions of the output folder",
    "gray-levels": "too few grey levels for a texture feature|raise bins, or lower bin_width",
    "review": "the diagnosis was made, but the case needs review|the message says why",
    "loss-not-finite": "the training loss became infinite or undefined; the weights of the last checkpoint are kept|"
    "check the images that the message names; train in a new run_dir with a lower learning rate, or continue with "
    "resume=RUN compute.precision=32",
    "mask-colour": "a mask's colours are not label values|save it as label numbers, one channel",
    "mask-grid": "a mask is not on the grid of its image|resample one onto the other",
    "mask-label": "a mask has values without a label, or pixels to be ignored|define the values with "
    "data.mask_values",
    "mask-lung-missing": "a lung is missing in the mask to be warped|complete the mask",
    "mask-missing": "a case has no mask but needs one|add it, or exclude the case",
    "mask-values": "a mask's values are not whole numbers from 0 to 255, or a file of one label has several|save it "
    "as label numbers, or one label as 0 and 255",
    "feature-undefined": "a feature is undefined for this sequence|check the images",
    "output-mixed": "the output folder contains results of other cases|choose another folder, or delete "
    "them|overwrite",
    "model": "a run folder is missing, incomplete or altered|copy the whole folder again, or train again",
    "no-sequence": "a single frame was given but a sequence is needed|give all frames, or data.time_axis",
    "not-a-picture": "these features need a 2D image, not a volume|choose other features",
    "not-a-volume": "these features need a volume, not a 2D image|choose other features",
    "not-grey": "these features need a grey image|convert it, or choose other features",
    "no-prediction": "a reference mask has no predicted mask of its name|segment that image too",
    "no-truth": "a mask has no reference mask of its name|remove it, or add a reference mask",
    "no-usable-case": "no case could be used|the case log gives the reason of each",
    "nothing-compared": "no mask could be compared with a reference|check that the two trees have the same names",
    "nyul-constant": "a constant image cannot be standardised|check the image",
    "one-class": "all training cases have the same class|add cases of another",
    "package-altered": "a model package was changed after it was written: a byte differs, or a file is missing|copy it "
    "again from its source",
    "package-schema": "a zip is not a model package, or has a newer format|make it with medseg model export, or "
    "install the newer medseg",
    "package-unsafe": "a model package contains something unsafe: a pickle, a path outside, a link, foreign code|do "
    "not use it; ask its author for another",
    "phantom-settings": "phantoms cannot be made with these settings|the message says which",
    "output": "a result cannot be written; earlier results are intact|free disk space, correct the permissions of the "
    "folder, or choose another; the same command then resumes",
    "quality": "the mask was made, but the image failed a quality check|check the image and its mask; "
    "limits are in configs/quality",
    "implausible": "the mask was made, but no patient has such a structure: it is too large, too small, or one of a "
    "pair is missing|check the mask; limits are in organ.plausibility",
    "clinical-rule": "a clinical rule reads features that are missing|choose the organ's own features, or "
    "organ.clinical_rule=null",
    "in-training-set": "every model was trained on this image or its patient, so none can segment it out of fold|give "
    "the models of all folds; a patient column tells which images belong together",
    "step-state": "a fitted preprocessing step lacks its state|copy the whole run folder",
    "step-unfitted": "a preprocessing step was used before it was fitted|train first",
    "too-large": "an image needs more memory than allowed, even with one tile at a time|allow more, close other "
    "programs, crop the image, or train on a coarser grid (organ.spacing_mm)|max_ram",
    "table-invalid": "a table lacks a column or has a row twice|the message names it",
    "worker-died": "a worker process ended while it had this case: memory ran out, or a library crashed; another "
    "replaced it|run again, with fewer workers if memory was short; if it fails again, check the image|workers",
}  # fmt: skip


def explain_code(code: str | None = None) -> str:
    """Meaning and solutions of a code, or one line per code; `ConfigError` for an unknown code."""
    if code is None:
        return "\n".join(f"{name}: {text.partition('|')[0]}" for name, text in sorted(CODES.items()))
    if code not in CODES:
        raise ConfigError(f"{code}: no such code{did_you_mean(code, list(CODES))}")
    meaning, solutions, *hints = CODES[code].split("|")
    return f"{code}: {meaning}.\nWhat to do: {with_hint(solutions, ''.join(hints))}."
