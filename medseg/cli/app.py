"""Commands, their arguments and help; the only place that turns an error into a message."""

from __future__ import annotations

import _thread
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg import __version__
from medseg.cli.batch import batch_app
from medseg.cli.data import data_app
from medseg.cli.model import model_app
from medseg.cli.options import ConfigDir, Overrides, Quiet, option_text
from medseg.errors import MedsegError
from medseg.utils.hints import show_hints

if TYPE_CHECKING:
    from medseg.config.settings import Settings

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    help="From biomedical images to a segmentation (U-Net) and on to a diagnosis (LSTM). Research use only.",
)  # fmt: skip
app.add_typer(data_app, name="data")
app.add_typer(model_app, name="model")
app.add_typer(batch_app)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"medseg {__version__}")
        raise typer.Exit


@app.callback()
def version(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """From biomedical images to a segmentation (U-Net) and on to a diagnosis (LSTM). Research use only."""


@app.command(epilog="Example: medseg train organ=lung data.root=my_scans run_dir=runs/lungs")
def train(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    multirun: Annotated[
        bool,
        typer.Option("--multirun", "-m", help="Train every combination of comma-separated values (Hydra's multirun)."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train a segmenter (`task=segmentation`) or a classifier (`task=diagnosis`), evaluated on held-out patients."""
    from medseg.config import compose
    from medseg.utils.console import be_quiet

    be_quiet(quiet)
    if multirun:
        compose.multirun(overrides or [], config_dir, _train)
    else:
        _train(compose.compose(overrides or [], config_dir))


def _train(settings: Settings) -> None:
    from medseg.training import train as task

    status = task.train(settings).exit_status
    if status:
        raise typer.Exit(status)


@app.command(epilog="Example: medseg reproduce runs/lungs data.root=my_scans")
def reproduce(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="The new run folder; else RUN-again.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train a run again from its own settings and split, and compare: exit status 0 where results are equal, else 3."""
    from medseg.config.compose import parse_overrides
    from medseg.utils.console import be_quiet

    be_quiet(quiet)
    from medseg.commands.reproduce import reproduce as task
    from medseg.runs.run import open_run

    raise typer.Exit(task(open_run(run), out, parse_overrides(overrides or [])))


@app.command(epilog="Example: medseg config organ=lung trainer=quick")
def config(overrides: Overrides = None, config_dir: ConfigDir = None) -> None:
    """Check settings and print all of them, resolved, as YAML."""
    from medseg.config.components import check_components
    from medseg.config.compose import compose
    from medseg.config.load import to_yaml

    settings = compose(overrides or [], config_dir)
    check_components(settings)
    typer.echo(to_yaml(settings), nl=False)


@app.command(epilog="Example: medseg plan organ=skin data.root=my_photos --out plan")
def plan(
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for fingerprint.json and plan.yaml.")] = Path(),
    config_dir: ConfigDir = None,
) -> None:
    """Propose settings for a dataset and this machine, each with its reason."""
    from medseg.commands.plan import plan_settings
    from medseg.config.compose import compose

    plan_settings(compose(overrides or [], config_dir), out)


@app.command(epilog="Example: medseg associate features.csv labels.csv associations.csv --label grade")
def associate(
    features: Annotated[Path, typer.Argument(metavar="FEATURES.csv", help="A features table of extract-features.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS.csv", help="A table: the case first, and a graded label.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="The table to write, and OUT.png next to it.")],
    label: Annotated[str, typer.Option("--label", help="Column with the grade, a number.")] = "label",
    positive: Annotated[
        float, typer.Option("--positive-from", help="The grade from which a case counts as positive.")
    ] = 1.0,
    quiet: Quiet = False,
) -> None:
    """Test how each feature is associated with a grade: Spearman, odds ratio, AUC with intervals; adjusted p-values."""
    from medseg.utils.console import be_quiet

    be_quiet(quiet)
    from medseg.commands.associate import associate_files

    associate_files(features, labels, label, positive, out)


@app.command(epilog="Example: medseg tune-postprocessing runs/fold0 runs/fold1 --out mine/postprocess/chosen.yaml")
def tune_postprocessing(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs with held-out cases, best one per fold.")],
    out: Annotated[Path, typer.Option("--out", help="The YAML file to write.")] = Path("postprocess/chosen.yaml"),
) -> None:
    """Select post-processing steps that improve held-out predictions and make no label worse."""
    from medseg.commands.tune_postprocessing import tune_postprocessing
    from medseg.runs.run import open_run

    tune_postprocessing([open_run(path) for path in runs], out)


@app.command(epilog="Example: medseg report runs/lungs runs/breathing --out report.html")
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Runs or packages, folders of evaluate, OUT.json of diagnose."),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="The HTML file; else report.html in the first run.")] = None,
) -> None:
    """Write one self-contained HTML file about runs."""
    from medseg.reports.report import write_report
    from medseg.runs.run import open_run

    models, sources = [], []  # a package's unpacked folder exists as long as its run object
    for path in runs:
        diagnosis = path.is_file() and path.suffix.lower() != ".zip"  # OUT.json of diagnose
        if diagnosis or ((path / "metrics.json").is_file() and not (path / "config.yaml").is_file()):
            sources.append(path)
        else:  # a model, whose hashes are checked
            models.append(open_run(path))
            sources.append(models[-1].path)
    default = runs[0].with_suffix(".html") if runs[0].is_file() else runs[0] / "report.html"
    typer.echo(write_report(sources, out or default))


@app.command(epilog="Example: medseg explain image-truncated")
def explain(
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="[CODE]", help="A code of the column `code` of a case log; without it all codes are listed."
        ),
    ] = None,
) -> None:
    """Explain an error code and what to do about it."""
    from medseg.commands.explain import explain_code

    typer.echo(explain_code(code))


@app.command(epilog="Example: medseg doctor")
def doctor() -> None:
    """Check the installation and show what this machine can do."""
    from medseg.commands.doctor import check_installation

    raise typer.Exit(check_installation())


def _prepare_process() -> None:
    """Set the environment before libraries load: waiting threads sleep, and no library checks for updates online."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # a pipe or file on Windows may not be able to encode "≥" or a patient's name
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")


def _end_main(thread: int) -> None:
    """Send SIGTERM to the main thread; only `pthread_kill`, which Windows lacks, interrupts its waiting calls."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, signal.SIGTERM)
    else:
        _thread.interrupt_main(signal.SIGTERM)


def main(run: Callable[..., Any] = app) -> None:
    """The `medseg` command: a `MedsegError` is one message and its exit status; a bug keeps its traceback."""
    _prepare_process()
    from medseg.utils.console import be_quiet

    be_quiet(False)
    show_hints(option_text)
    # libraries turn KeyboardInterrupt into their own exit statuses; SystemExit passes through them
    stopped, main_thread = False, threading.get_ident()

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped, sys.unraisablehook = True, unraisable
        raise SystemExit(130)

    def unraisable(dropped: sys.UnraisableHookArgs) -> None:
        if isinstance(dropped.exc_value, SystemExit):  # raised in a destructor, where Python drops it
            threading.Timer(0.01, _end_main, [main_thread]).start()
        else:
            sys.__unraisablehook__(dropped)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        run()
    except Exception as error:
        if stopped:  # a library turned the SystemExit into an error of its own
            sys.exit(130)
        if not isinstance(error, MedsegError):
            raise
        from medseg.utils.console import error as show_error

        show_error(str(error), error.hint)
        sys.exit(error.exit_status)
    finally:
        if stopped:  # not written by `stop`: standard error may be redirected to a file then, see `itk.quiet`
            sys.stderr.write("interrupted\n")


if __name__ == "__main__":
    main()
