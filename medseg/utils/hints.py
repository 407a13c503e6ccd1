"""Format hints of messages: the library names arguments, the command line shows its options."""

from __future__ import annotations

from collections.abc import Callable

_shown: Callable[[str], str] | None = None


def show_hints(shown: Callable[[str], str]) -> None:
    """Append `shown(hint)` to messages from now on, e.g. for the hint "overwrite"; before, hints are not shown."""
    global _shown
    _shown = shown


def with_hint(text: str, hint: str) -> str:
    """A message with its hint as the user types it, if there is one and `show_hints` was called."""
    return f"{text} ({_shown(hint)})" if hint and _shown else text
