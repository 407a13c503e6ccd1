"""Names, links and files that are none: what a folder can hold beside good and bad images."""

from __future__ import annotations

import os
from pathlib import Path

from tests.zoo.kind import PICTURE, Make, Specimen
from tests.zoo.pictures import PNG

ACCENTS = "Übung – ñandú 画像 🩻"


def link(target: str) -> Make:
    """A maker of a symbolic link."""
    return lambda path: path.symlink_to(target)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def circle(path: Path) -> None:
    """A folder that holds a picture and a link to its own parent."""
    path.parent.mkdir(exist_ok=True)
    PNG(path)
    (path.parent / "back").symlink_to("..")


def nested(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PNG(path)


PLACES = [
    *(
        Specimen(name, nested, pixels=PICTURE)
        for name in (
            "with blanks  two.png",
            f"{ACCENTS}.png",
            "n" * 245 + ".png",
            "100%.png",
            "[bold]name[/].png",
            "-dash.png",
            "a;b,c\"d'e.png",
            "name.nii.png",
            "%d.png",
            "$HOME.png",
            "dots...png",
            f"{ACCENTS}/{'deep/' * 12}inside.png",
            f"{'f' * 200}/{'g' * 200}.png",
        )
    ),
    Specimen("line\nbreak.png", nested, "image-name"),
    Specimen(os.fsdecode(b"latin-\xe9.png"), nested, "image-name"),
    Specimen("link-good.png", link("with blanks  two.png"), pixels=PICTURE),
    Specimen("link-nowhere.png", link("nowhere.png"), "image-missing"),
    Specimen("link-itself.png", link("link-itself.png"), "image-missing"),
    Specimen("link-device.png", link("/dev/zero"), "image-unreadable"),
    Specimen("link-null.png", link("/dev/null"), "image-unreadable"),
    Specimen("pipe.png", pipe, "image-unreadable"),
    Specimen("folder.png", directory, "dicom-none"),
    Specimen("circle/inside.png", circle, pixels=PICTURE),
]
