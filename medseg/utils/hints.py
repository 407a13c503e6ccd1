"""What a message's hint looks like: a library call knows arguments, the command line its options."""

from __future__ import annotations

from collections.abc import Callable

_shown: Callable[[str], str] | None = None


def show_hints(shown: Callable[[str], str]) -> None:
    """From now on messages end in what `shown` makes of their hint, such as "overwrite"; until then they have none."""
    global _shown
    _shown = shown


def with_hint(text: str, hint: str) -> str:
    """A message with its hint as the user is to type it, where there is one and somebody says how."""
    return f"{text} ({_shown(hint)})" if hint and _shown else text
