"""Make the zoo, or read all of one and say as JSON lines what came of each: `python -m tests.zoo FOLDER [--read]`."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
from pathlib import Path

from medseg.errors import ImageError
from medseg.io.image import read_image
from tests.zoo import ZOO, make_zoo

LIMIT = 30.0  # seconds for one file; a hang ends the process and the last line names the file before


def read_all(root: Path) -> None:
    for kind, specimens in ZOO.items():
        for specimen in specimens:
            if not os.path.lexists(root / kind / specimen.name):  # a slow one that was not asked for
                continue
            started, code, message = time.monotonic(), "", ""
            faulthandler.dump_traceback_later(LIMIT, exit=True)
            try:
                message = specimen.fault(read_image(root / kind / specimen.name))
            except ImageError as error:
                code, message = error.code, str(error)
            except Exception as error:  # noqa: BLE001 - what this is to find
                code, message = "TRACEBACK", f"{type(error).__name__}: {error}"
            seconds = round(time.monotonic() - started, 3)
            line = {"kind": kind, "name": specimen.name, "code": code, "message": message, "seconds": seconds}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    if sys.argv[2:] == ["--read"]:
        read_all(Path(sys.argv[1]))
    else:
        make_zoo(Path(sys.argv[1]))
