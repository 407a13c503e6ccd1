"""Retrospective feature functions: their value at a frame depends on later frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
ATTRIBUTE = "retrospective"


def retrospective(function: Function) -> Function:
    """Mark a feature function whose value at a frame depends on later frames, too."""
    setattr(function, ATTRIBUTE, True)
    return function


def is_retrospective(function: Callable[..., Any]) -> bool:
    """Return whether a feature function, or the function it is a partial of, is retrospective."""
    return bool(getattr(getattr(function, "func", function), ATTRIBUTE, False))
