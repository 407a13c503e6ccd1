"""Feature functions that read a whole sequence: their value of a frame could not have been known at that frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
ATTRIBUTE = "retrospective"


def retrospective(function: Function) -> Function:
    """Mark a feature function whose value of a frame hangs on later frames, too."""
    setattr(function, ATTRIBUTE, True)
    return function


def is_retrospective(function: Callable[..., Any]) -> bool:
    """Whether a feature function, or what it is a partial of, is marked so."""
    return bool(getattr(getattr(function, "func", function), ATTRIBUTE, False))
