"""Arguments shared by several commands, and the end of a batch command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medseg.batch.case_log import CaseLog


def complete(incomplete: str) -> list[str]:
    """Choices of config groups for a shell's TAB: `organ=`, `organ=lung`, …"""
    from medseg.config.compose import group_choices

    words = [f"{group}={name}" for group, names in group_choices().items() for name in names]
    if "=" not in incomplete:
        words = [
            *sorted({word.split("=")[0] + "=" for word in words}),
            "task=",
            "data.root=",
            "run_dir=",
            "resume=",
            "seed=",
        ]
    return [word for word in words if word.startswith(incomplete)]


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Settings, e.g. organ=lung data.root=FOLDER.", autocompletion=complete
    ),
]
ConfigDir = Annotated[
    Path | None, typer.Option("--config-dir", help="A folder with your own configs (organ/…, trainer/…).")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a summary as JSON on standard output.")]
Glob = Annotated[
    str | None, typer.Option("--glob", help="Only files whose path below the folder matches, e.g. '*/ct.nii.gz'.")
]
Model = Annotated[Path, typer.Option("--model", help="The run folder that `medseg train` wrote, or a package.")]
Models = Annotated[
    list[Path],
    typer.Option(
        "--model",
        help="A run folder or package; repeat it for several models: different labels are merged into one mask, the "
        "first model having priority; the same labels are compared (agreement.csv), or averaged with --average.",
    ),
]
SeriesUid = Annotated[
    str | None, typer.Option("--series-uid", help="The series to read from a DICOM folder with several.")
]
Average = Annotated[
    bool,
    typer.Option(
        "--average",
        help="With several models of the same labels: one mask from the mean of their probabilities, with the "
        "post-processing of the first.",
    ),
]
Probabilities = Annotated[
    bool,
    typer.Option(
        "--probabilities",
        help="Write the probability of each label below OUT/probabilities: PNG (65535 = 1) for 2D images, else NIfTI.",
    ),
]
Uncertainty = Annotated[
    bool,
    typer.Option(
        "--uncertainty",
        help="Write the entropy of the probabilities, 0 to 1, below OUT/uncertainty, in the same formats.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers", help="Processes that share the cases, each with its own models; 1: this process only.", min=0
    ),
]
OutputFormat = Annotated[
    str | None,
    typer.Option(
        "--output-format",
        help="Format of the masks: nifti, nrrd, mha, png, tiff or a suffix such as .nii; dicom-seg, for DICOM images, "
        "refers to the slices by UID and leaves name, ID, birth date and dates blank.",
    ),
]
KeepPatientData = Annotated[
    bool,
    typer.Option("--keep-patient-data", help="Copy name, ID, birth date and study of the images into a DICOM SEG."),
]
MaxRam = Annotated[
    float | None,
    typer.Option("--max-ram", help="GB of memory for all workers; default: the free memory.", min=0.1),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
OutOfFold = Annotated[
    bool,
    typer.Option(
        "--out-of-fold",
        help="With several cross-validation models: segment each case with a model not trained on it or its patient.",
    ),
]
FailOnQuality = Annotated[
    bool, typer.Option("--fail-on-quality", help="Treat failed quality checks as errors (default: review).")
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first case that fails.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete results of other cases from a previous run.")]


def option_text(hint: str) -> str:
    """A message's hint as options: "overwrite" → --overwrite, "max_ram=GB" → --max-ram GB, "x=False" → without --x."""
    options = []
    for argument in hint.split():
        name, _, value = argument.partition("=")
        option = f"--{name.replace('_', '-')}"
        options.append(f"without {option}" if value == "False" else f"{option} {value}".strip())
    return ", ".join(options)


def finish_batch(log: CaseLog, as_json: bool) -> None:
    """Print a summary of a batch, as text or JSON, and exit with its exit status."""
    from medseg.utils.console import say

    log.close()
    counts = ", ".join(f"{number} {status}" for status, number in sorted(log.counts.items()))
    reused = f" ({log.n_reused} unchanged since an earlier run)" if log.n_reused else ""
    say(f"{len(log.entries)} cases: {counts}{reused}. Case log: {log.file}")
    if as_json:
        typer.echo(json.dumps(log.summary(), indent=2, allow_nan=False))
    raise typer.Exit(log.exit_status())
