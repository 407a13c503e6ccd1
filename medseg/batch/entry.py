"""One case's line in a case log."""

from __future__ import annotations

from dataclasses import dataclass

SUCCEEDED = ("ok", "review")


@dataclass(frozen=True)
class Entry:
    """One case's line: `status` is ok | failed | skipped | review.

    input_hash: SHA-256 of the inputs; key: digest of model, settings and version; outputs: written files, one per
    line; output_hash: SHA-256 of them.
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
