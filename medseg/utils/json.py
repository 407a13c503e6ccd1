"""Values on their way into JSON and tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def finite_or_none(value: Any) -> float | None:
    """A number for JSON: what is missing, undefined or infinite is null."""
    return None if value is None or not np.isfinite(value) else float(value)


def join_distinct(texts: Iterable[object]) -> str:
    """Texts that say something, each once, in their order, with semicolons between."""
    return "; ".join(dict.fromkeys(text for text in texts if isinstance(text, str) and text))
