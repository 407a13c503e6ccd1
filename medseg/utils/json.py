"""Values for JSON and tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def finite_or_none(value: Any) -> float | None:
    """A number for JSON; missing, undefined and infinite values are null."""
    return None if value is None or not np.isfinite(value) else float(value)


def join_distinct(texts: Iterable[object]) -> str:
    """Distinct texts that are not empty, in their order, joined by semicolons."""
    return "; ".join(dict.fromkeys(text for text in texts if isinstance(text, str) and text))
