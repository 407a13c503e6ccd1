"""Validate untrusted YAML: plain values only, no tags, anchors or interpolation."""

from __future__ import annotations

import yaml

MAX_BYTES = 1_000_000  # characters; a recipe has 10,000
MAX_DEPTH = 40  # levels; a recipe has 6
MISSING = "???"


def require_plain_yaml(text: str) -> None:
    """Raises `ValueError` for YAML with tags (which create objects), anchors (which multiply), ``${…}`` (which may read
    the environment), or of a size or depth that no settings have. Builds no objects.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{len(text)} characters, settings have at most {MAX_BYTES}")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"{_position(event)}: anchors and aliases are not allowed")
        if tag := getattr(event, "tag", None):
            raise ValueError(f"{_position(event)}: the tag {tag} is not allowed")
        if isinstance(event, yaml.ScalarEvent):
            require_resolved(str(event.value))
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"{_position(event)}: nested in more than {MAX_DEPTH} levels")


def _position(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "settings"


def require_resolved(text: str) -> None:
    """Raises `ValueError` for text that is a reference or a missing value."""
    if "${" in text or text == MISSING:
        raise ValueError(f"{text[:60]!r} is a reference or a missing value, which resolved settings do not have")
