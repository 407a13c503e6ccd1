"""Headers whose pixels are in another file."""

from __future__ import annotations

import re
from pathlib import Path


def detached(path: Path) -> list[Path]:
    """List the pixel files that the header of a .mhd or .nrrd names; empty for other files."""
    if path.suffix.lower() not in (".mhd", ".nrrd") or not path.is_file():
        return []
    with path.open("rb") as file:
        head = file.read(4096)
    names = re.findall(rb"(?:ElementDataFile\s*=|data ?file:)\s*([^\r\n]+)", head, re.IGNORECASE)
    return [path.parent / name.decode(errors="replace").strip() for name in names if name.strip() != b"LOCAL"]
