import time

import pytest
import yaml

from medseg.config.safe_yaml import require_plain_yaml, require_resolved

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_what_a_recipe_holds_passes() -> None:
    require_plain_yaml("a: 1\nb: {c: [1.0e-05, null, 'text', \"\"], d: true}\n")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (BOMB, "anchors"),
        ("a: *b\n", "anchors"),
        ("a: !!python/object/apply:os.system ['true']\n", "tag"),
        ("a: !!python/object/apply:pathlib.Path ['x']\n", "tag"),
        ("a: !!binary aGk=\n", "tag"),
        ("a: ${oc.env:HOME}\n", "is a reference or a missing value"),
        ("a: '\\${oc.env:HOME}'\n", "is a reference or a missing value"),
        ("${oc.env:HOME}: 1\n", "is a reference or a missing value"),
        ('a: "\\x24{oc.env:HOME}"\n', "is a reference or a missing value"),
        ("a: ???\n", "is a reference or a missing value"),
        ("[" * 50 + "]" * 50, "nested"),
        ("a: " + "x" * 1_000_001, "characters"),
    ],
)
def test_what_acts_or_multiplies_is_refused_at_once(text: str, word: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match=word):
        require_plain_yaml(text)
    assert time.process_time() - started < 2


def test_broken_yaml_is_yamls_own_error() -> None:
    with pytest.raises(yaml.YAMLError):
        require_plain_yaml("a: [1\nb: }")


def test_text_that_only_looks_alike_passes() -> None:
    require_resolved("costs $5 {or more}")
