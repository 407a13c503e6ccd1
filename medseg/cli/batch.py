"""The commands that process a folder case by case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import (
    AsJson,
    Average,
    Device,
    FailFast,
    FailOnQuality,
    Glob,
    KeepPatientData,
    MaxRam,
    Model,
    Models,
    OutOfFold,
    OutputFormat,
    Overwrite,
    Probabilities,
    Quiet,
    SeriesUid,
    Uncertainty,
    Workers,
    finish_batch,
)

batch_app = typer.Typer()
Diagnoses = Annotated[
    Path,
    typer.Argument(
        metavar="OUT.csv",
        help="The table of diagnoses; also writes OUT.json (all results of each case), OUT_features.csv, "
        "OUT_pictures, and the case log OUT_cases.csv and .json with the status of each case.",
    ),
]


@batch_app.command(
    epilog="Examples: medseg segment new_scans masks --model runs/lungs; "
    "medseg segment new_scans masks --model runs/fold0 --model runs/fold1 --average --uncertainty"
)
def segment(
    source: Annotated[Path, typer.Argument(metavar="IMAGES", help="An image, a DICOM folder, or a folder of them.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for masks, cases.csv and labels.json.")],
    model: Models,
    pattern: Glob = None,
    series_uid: SeriesUid = None,
    output_format: OutputFormat = None,
    average: Average = False,
    out_of_fold: OutOfFold = False,
    probabilities: Probabilities = False,
    uncertainty: Uncertainty = False,
    fail_fast: FailFast = False,
    fail_on_quality: FailOnQuality = False,
    overwrite: Overwrite = False,
    keep_patient_data: KeepPatientData = False,
    workers: Workers = 1,
    max_ram: MaxRam = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Segment every image of a folder. An unreadable image is reported and the others are segmented.

    uncertainty.csv has the expected Dice of each label of a trained model; a case with a low one needs review.
    Patient data of image headers is never written to outputs unless --keep-patient-data is given. File names are kept.
    """
    from medseg.batch.interrupts import force_exit_after
    from medseg.utils.console import be_quiet

    be_quiet(quiet)
    with force_exit_after():
        from medseg.commands.segment import SegmentRequest, segment_folder
        from medseg.runs.run import open_run

        request = SegmentRequest(
            source, out, pattern, series_uid, output_format, out_of_fold, fail_fast, fail_on_quality, overwrite,
            keep_patient_data, max_ram, average, probabilities, uncertainty,
        )  # fmt: skip
        log = segment_folder(request, [open_run(path) for path in model], device, workers)
    finish_batch(log, as_json)


@batch_app.command("extract-features", epilog="Example: medseg extract-features new_scans masks features.csv")
def extract_features(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder of images, or a dataset with cases.csv.")],
    masks: Annotated[
        Path, typer.Argument(metavar="MASKS", help="Their masks: the same names and subfolders; suffixes may differ.")
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.csv",
            help="The features table; also writes OUT_steps.csv, OUT_units.json, and the case log OUT_cases.csv and "
            ".json with the status of each case.",
        ),
    ],
    features: Annotated[
        str,
        typer.Option(
            "--features", help="A choice of the group `features`; default: that of the organ with these labels."
        ),
    ] = "",
    pattern: Glob = None,
    fail_fast: FailFast = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Extract features of images inside their masks: one row per case or frame.

    When repeated, extracts only cases whose image, mask or features changed, and failed ones.
    """
    from medseg.utils.console import be_quiet

    be_quiet(quiet)
    from medseg.batch.runner import BatchOptions
    from medseg.commands.extract_features import ExtractRequest, extract_folder

    request = ExtractRequest(images, masks, out, features, pattern, BatchOptions(fail_fast, overwrite))
    finish_batch(extract_folder(request), as_json)


@batch_app.command(
    epilog="Example: medseg diagnose new_scans diagnosis.csv --model runs/breathing --segmenter runs/lungs"
)
def diagnose(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A folder of images, or a features table (.csv).")],
    out: Diagnoses,
    model: Model,
    masks: Annotated[Path | None, typer.Option("--masks", help="Masks of the images.")] = None,
    segmenter: Annotated[
        Path | None, typer.Option("--segmenter", help="A segmentation model (run or package) that makes the masks.")
    ] = None,
    pattern: Glob = None,
    fail_fast: FailFast = False,
    overwrite: Overwrite = False,
    fail_on_quality: FailOnQuality = False,
    shape: Annotated[str, typer.Option("--format", help="Standard output: table, or json as in OUT.json.")] = "table",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Diagnose cases: state or class with softmax probabilities, and the signal if the model predicts one.

    When repeated, processes only cases whose image, mask or models changed, and failed ones.
    """
    from medseg.errors import ConfigError
    from medseg.utils.console import be_quiet

    if shape not in ("table", "json") or (shape == "json" and as_json):
        raise ConfigError(
            f"--format {shape}: must be table or json, and json without --json, which prints the case log"
        )
    be_quiet(quiet or shape == "json")
    from medseg.batch.runner import BatchOptions
    from medseg.commands.diagnose import DiagnoseRequest, diagnose_folder
    from medseg.runs.run import open_run

    options = BatchOptions(fail_fast, overwrite)
    mask_model = open_run(segmenter) if segmenter else None
    request = DiagnoseRequest(source, out, masks, mask_model, pattern, options, fail_on_quality)
    log = diagnose_folder(request, open_run(model))
    if shape == "json":
        typer.echo(out.with_suffix(".json").read_text(encoding="utf-8"), nl=False)
    finish_batch(log, as_json)


@batch_app.command(epilog="Example: medseg evaluate masks reference_masks --out evaluation")
def evaluate(
    masks: Annotated[Path, typer.Argument(metavar="MASKS", help="Folder of masks to evaluate.")],
    truth: Annotated[
        Path,
        typer.Argument(
            metavar="REFERENCE", help="Reference masks: the same names and subfolders; suffixes may differ."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for evaluation.csv, metrics.json, and the case log evaluation_cases.csv and .json with the "
            "status of each mask.",
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Surface distance in mm that counts as equal.", min=0)
    ] = 3.0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare masks with reference masks: Dice, IoU, HD95 and surface Dice per case; missed structures score 0."""
    from medseg.utils.console import be_quiet

    be_quiet(quiet)
    from medseg.commands.evaluate import evaluate_and_write

    summary, status = evaluate_and_write(masks, truth, out, tolerance)
    if as_json:
        typer.echo(json.dumps(summary, indent=2, allow_nan=False))
    raise typer.Exit(status)
