"""The commands below `medseg data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import AsJson, Overrides, complete, finish_batch

data_app = typer.Typer(no_args_is_help=True, help="Make synthetic data; prepare a public dataset; check one.")


@data_app.command("phantom", epilog="Example: medseg data phantom lung scans --patients 6")
def phantom(
    organ: Annotated[
        str,
        typer.Argument(
            help="A recipe, e.g. lung.",
            autocompletion=lambda incomplete: [word.removeprefix("organ=") for word in complete(f"organ={incomplete}")],
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the dataset.")],
    patients: Annotated[int, typer.Option(help="Number of patients.", min=1)] = 10,
    frames: Annotated[int, typer.Option(help="Frames of each patient's sequence; 1: a single image.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the random patients.", min=0)] = 1,
) -> None:
    """Make a synthetic dataset with known masks: images/, masks/ and cases.csv."""
    from medseg.config.components import build
    from medseg.config.compose import compose
    from medseg.config.targets import PHANTOMS

    if (out / "cases.csv").exists():
        raise typer.BadParameter(f"{out} contains a dataset; choose an empty folder")
    build(compose([f"organ={organ}"]).organ.phantom, PHANTOMS, folder=out, patients=patients, frames=frames, seed=seed)
    typer.echo(out / "cases.csv")


@data_app.command("synthesize", epilog="Example: medseg data synthesize label_maps synthetic --cases 300")
def synthesize(
    maps: Annotated[Path, typer.Argument(metavar="MAPS", help="Folder of label maps of whole heads, with labels.csv.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the dataset.")],
    cases: Annotated[int, typer.Option(help="Number of images, shared among the maps.", min=1)] = 300,
    seed: Annotated[int, typer.Option(help="Seed of the random images.", min=0)] = 1,
) -> None:
    """Make images of random contrast and shape from label maps; an interrupted run goes on where it stopped."""
    from medseg.commands.synthesize_dataset import synthesize_dataset

    typer.echo(synthesize_dataset(maps, out, cases, seed))


@data_app.command("prepare", epilog="Example: medseg data prepare isic2017 downloads/isic isic")
def prepare(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A public dataset, e.g. isic2017, idrid_seg, busi, brats.")
    ],
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="Folder with the unpacked download.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="New folder for the dataset, with links instead of copies.")
    ],
    as_json: AsJson = False,
) -> None:
    """Convert a public dataset in its official layout to one that medseg reads; duplicates are reported."""
    from medseg.commands.prepare_dataset import prepare_dataset

    finish_batch(prepare_dataset(name, raw, out), as_json)


@data_app.command("check", epilog="Example: medseg data check my_scans organ=lung")
def check(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="The dataset.")],
    overrides: Overrides = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE.csv",
            help="The case log with the findings of each case, and a .json of the same name.",
        ),
    ] = Path("data_check.csv"),
    as_json: AsJson = False,
) -> None:
    """Read a whole dataset and list all problems."""
    from medseg.commands.check_dataset import check_dataset
    from medseg.config.compose import compose

    finish_batch(check_dataset(compose([*(overrides or []), f"data.root={root}"]), out), as_json)
