"""One case's line in a case log."""

from __future__ import annotations

from dataclasses import dataclass

SUCCEEDED = ("ok", "review")


@dataclass(frozen=True)
class Entry:
    """One case's line: `status` is ok | failed | skipped | review.

    input_hash: SHA-256 of what was read; key: of model, settings and version; outputs: files that were written, a line
    each; output_hash: SHA-256 of those.
    """

    case: str
    status: str
    code: str = ""
    message: str = ""
    seconds: float = 0.0
    input: str = ""
    output: str = ""
    input_hash: str = ""
    key: str = ""
    outputs: str = ""
    output_hash: str = ""
