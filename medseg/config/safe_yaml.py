"""Settings that a stranger may have written: YAML that holds plain values and nothing that acts."""

from __future__ import annotations

import yaml

MAX_BYTES = 1_000_000  # characters; a recipe has 10,000
MAX_DEPTH = 40  # levels; a recipe has 6
MISSING = "???"


def require_plain_yaml(text: str) -> None:
    """Raises `ValueError` for YAML with tags (they make objects), anchors (they multiply), ``${…}`` (it asks the
    environment), or of a size or depth that no settings have. Nothing is built meanwhile."""
    if len(text) > MAX_BYTES:
        raise ValueError(f"{len(text)} characters, settings have at most {MAX_BYTES}")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"{_place(event)}: anchors and aliases are not allowed")
        if tag := getattr(event, "tag", None):
            raise ValueError(f"{_place(event)}: the tag {tag} is not allowed")
        if isinstance(event, yaml.ScalarEvent):
            require_resolved(str(event.value))
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"{_place(event)}: nested in more than {MAX_DEPTH} levels")


def _place(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "settings"


def require_resolved(text: str) -> None:
    """Raises `ValueError` for text that stands for another value."""
    if "${" in text or text == MISSING:
        raise ValueError(f"{text[:60]!r} stands for another value; resolved settings hold none such")
