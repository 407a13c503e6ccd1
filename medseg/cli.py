"""Commands, their arguments and help; the one place where an error becomes a message. The only user of typer."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg import __version__
from medseg.errors import MedsegError

if TYPE_CHECKING:
    from medseg.config import Config
    from medseg.ledger import Ledger

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    help="From biomedical images to a segmentation (U-Net) and on to a diagnosis (LSTM). Research use only.",
)  # fmt: skip
data_app = typer.Typer(no_args_is_help=True, help="Make synthetic data; check a dataset.")
app.add_typer(data_app, name="data")


def _complete(incomplete: str) -> list[str]:
    """Choices of config groups for a shell's TAB: `organ=`, `organ=lung`, …"""
    from medseg.config import group_choices

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
        metavar="[KEY=VALUE]...", help="Settings, e.g. organ=lung data.root=FOLDER.", autocompletion=_complete
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
Model = Annotated[Path, typer.Option("--model", help="The run folder that `medseg train` wrote.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]


@app.command(epilog="Example: medseg train organ=lung data.root=my_scans run_dir=runs/lungs")
def train(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Every combination of comma-separated values, by Hydra.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train a segmenter (`task=segmentation`) or a diagnoser (`task=diagnosis`) and measure it on held-out patients."""
    from medseg import config
    from medseg.console import be_quiet

    be_quiet(quiet)
    given = overrides or []
    if multirun:
        config.multirun(given, config_dir, _train_one)
    else:
        _train_one(config.compose(given, config_dir))


def _train_one(settings: Config) -> None:
    from medseg import train as task
    from medseg.config import check

    check(settings)
    status = task.train(settings).exit_status
    if status:
        raise typer.Exit(status)


@app.command()
def show(overrides: Overrides = None, config_dir: ConfigDir = None) -> None:
    """Print the resolved settings that a command line means, as YAML."""
    from medseg.config import compose, to_yaml

    typer.echo(to_yaml(compose(overrides or [], config_dir)), nl=False)


@app.command()
def segment(
    source: Annotated[Path, typer.Argument(metavar="IMAGES", help="An image, a DICOM folder, or a folder with such.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for masks, cases.csv and labels.json.")],
    model: Model,
    pattern: Glob = None,
    series: Annotated[str | None, typer.Option("--series", help="UID, where a DICOM folder holds several.")] = None,
    suffix: Annotated[str | None, typer.Option("--format", help="Ending of the masks, e.g. .mha or .png.")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Segment every image of a folder; a broken one is named and the others go on."""
    from medseg.console import be_quiet

    be_quiet(quiet)
    from medseg.runs import open_run
    from medseg.segment import Batch, segment_folder

    ledger = segment_folder(Batch(source, out, pattern, series, suffix), open_run(model), device)
    _finish(ledger, as_json)


@app.command("extract-features")
def extract_features(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder of images, or a dataset with cases.csv.")],
    masks: Annotated[Path, typer.Argument(metavar="MASKS", help="Their masks: the same tree, other endings allowed.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="The table; OUT_steps.csv, OUT_units.json beside it.")],
    features: Annotated[str, typer.Option("--features", help="A choice of the group `features`.")] = "breathing",
    pattern: Glob = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure images inside their masks: one row a case or frame."""
    from medseg.console import be_quiet

    be_quiet(quiet)
    from medseg.extract import extract_folder

    _finish(extract_folder(images, masks, out, features, pattern), as_json)


@app.command()
def diagnose(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A folder of images, or a features table (.csv).")],
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="The table of diagnoses to write.")],
    model: Model,
    masks: Annotated[Path | None, typer.Option("--masks", help="Masks of the images.")] = None,
    segmenter: Annotated[
        Path | None, typer.Option("--segmenter", help="A segmentation run that makes the masks.")
    ] = None,
    pattern: Glob = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Diagnose cases: state or class with softmax probabilities, and the signal where the model has one."""
    from medseg.console import be_quiet

    be_quiet(quiet)
    from medseg.diagnose import Request, diagnose_folder
    from medseg.runs import open_run

    request = Request(source, out, masks, open_run(segmenter) if segmenter else None, pattern)
    _finish(diagnose_folder(request, open_run(model)), as_json)


@app.command()
def evaluate(
    masks: Annotated[Path, typer.Argument(metavar="MASKS", help="Folder of masks to judge.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="True masks: the same tree, other endings allowed.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for evaluation.csv and metrics.json.")] = None,
    tolerance: Annotated[float, typer.Option("--tolerance", help="Surface distance in mm that agrees.", min=0)] = 3.0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare masks with the truth: Dice, IoU, HD95 and surface Dice per case; a missed structure counts 0."""
    from medseg.console import be_quiet

    be_quiet(quiet)
    from medseg.evaluate import evaluate_and_write

    summary, status = evaluate_and_write(masks, truth, out, tolerance)
    if as_json:
        typer.echo(json.dumps(summary, indent=2, allow_nan=False))
    raise typer.Exit(status)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, and what evaluate --out wrote.")],
    out: Annotated[Path | None, typer.Option("--out", help="The HTML file; else report.html in the first run.")] = None,
) -> None:
    """Write one self-contained HTML file about runs."""
    from medseg.report import write_report
    from medseg.runs import open_run

    for path in runs:
        if not (path / "metrics.json").is_file() or (path / "config.yaml").is_file():  # a model: whole and unaltered
            open_run(path)
    typer.echo(write_report(runs, out or runs[0] / "report.html"))


@app.command()
def doctor() -> None:
    """Say what this machine and installation can do."""
    from medseg.doctor import examine

    raise typer.Exit(examine())


@data_app.command("phantom")
def phantom(
    organ: Annotated[
        str,
        typer.Argument(
            help="A recipe, e.g. lung.",
            autocompletion=lambda incomplete: [
                word.removeprefix("organ=") for word in _complete(f"organ={incomplete}")
            ],
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the dataset.")],
    patients: Annotated[int, typer.Option(help="Number of patients.", min=1)] = 10,
    frames: Annotated[int, typer.Option(help="Frames of each patient's sequence; 1: a single image.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="The same seed, the same patients.", min=0)] = 1,
) -> None:
    """Make a synthetic dataset with known masks: images/, masks/ and cases.csv."""
    from medseg.config import build, compose

    if (out / "cases.csv").exists():
        raise typer.BadParameter(f"{out} holds a dataset already; choose an empty folder")
    build(compose([f"organ={organ}"]).organ.phantom, folder=out, patients=patients, frames=frames, seed=seed)
    typer.echo(out / "cases.csv")


@data_app.command("check")
def check(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="The dataset.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Read a whole dataset and list everything that is wrong with it."""
    from medseg.check import check_dataset
    from medseg.config import compose

    _finish(check_dataset(compose([*(overrides or []), f"data.root={root}"])), as_json)


@app.command(hidden=True)
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _finish(ledger: Ledger, as_json: bool) -> None:
    """Say how a batch went, in words or JSON, and end with its exit status."""
    from medseg.console import say

    counts = ", ".join(f"{number} {status}" for status, number in sorted(ledger.counts.items()))
    say(f"{len(ledger.entries)} cases: {counts}. Ledger: {ledger.file}")
    if as_json:
        typer.echo(json.dumps(ledger.summary(), indent=2, allow_nan=False))
    raise typer.Exit(ledger.exit_status())


def _prepare_process() -> None:
    """What must be set before libraries load: waiting threads sleep, and nobody asks the network for a version."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def main(run: Callable[..., Any] = app) -> None:
    """The `medseg` command: a `MedsegError` is one message and its exit status; a bug keeps its traceback."""
    _prepare_process()
    # libraries turn KeyboardInterrupt into exit statuses of their own; a SystemExit passes through them
    signal.signal(signal.SIGINT, _stop)
    try:
        run()
    except MedsegError as error:
        from medseg.console import error as show_error

        show_error(str(error))
        sys.exit(error.exit_status)


def _stop(_number: int, _frame: object) -> None:
    sys.stderr.write("interrupted\n")
    raise SystemExit(130)


if __name__ == "__main__":
    main()
