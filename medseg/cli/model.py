"""The commands below `medseg model`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import AsJson

model_app = typer.Typer(no_args_is_help=True, help="Export, import, show and verify models.")

AnyModel = Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder, or a package (.zip).")]


@model_app.command("export", epilog="Example: medseg model export runs/lungs lungs.zip --licence CC-BY-4.0")
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder that `medseg train` wrote.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.zip", help="The package to write.")],
    licence: Annotated[
        str | None,
        typer.Option("--licence", help="Licence of the model: an identifier such as CC-BY-4.0, or a text file."),
    ] = None,
) -> None:
    """Write a model as one zip: weights, settings, metrics, card, hashes; no names, checkpoints or predictions."""
    from medseg.commands.model_package import export_model
    from medseg.runs.run import open_run

    typer.echo(export_model(open_run(run), out, licence))


@model_app.command("import", epilog="Example: medseg model import lungs.zip runs/lungs")
def import_(
    package: Annotated[Path, typer.Argument(metavar="ZIP", help="A package.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the run.")],
) -> None:
    """Check a package and unpack it into a run folder; `--model` also accepts the zip itself."""
    from medseg.commands.model_package import import_model

    typer.echo(import_model(package, folder).path)


@model_app.command("show", epilog="Example: medseg model show lungs.zip")
def show(model: AnyModel, as_json: AsJson = False) -> None:
    """Show a model: organ, labels, licence, evaluation, files."""
    from medseg.commands.model_package import describe_model
    from medseg.runs.run import open_run

    run = open_run(model)
    facts = describe_model(run)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    for key, value in facts.items():
        typer.echo(f"{key}: {_text(value)}")
    if run.file("card.md").is_file():
        typer.echo("\n" + run.file("card.md").read_text(encoding="utf-8"), nl=False)


@model_app.command("verify", epilog="Example: medseg model verify lungs.zip")
def verify(model: AnyModel) -> None:
    """Check a model before use: every hash, no pickle, settings that name only medseg's own classes."""
    from medseg.commands.model_package import verify_model
    from medseg.runs.run import open_run

    names = verify_model(open_run(model))
    typer.echo(f"{model}: verified (hashes, no pickle, no foreign code): {', '.join(names)}")


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)
