import time

import pytest
import yaml

from medseg.config.safe_yaml import require_plain_yaml, require_resolved

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_require_plain_yaml_of_recipe_passes() -> None:
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
def test_require_plain_yaml_refuses_tags_anchors_and_references(text: str, word: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match=word):
        require_plain_yaml(text)
    assert time.process_time() - started < 2


def test_require_plain_yaml_of_broken_yaml_raises_yaml_error() -> None:
    with pytest.raises(yaml.YAMLError):
        require_plain_yaml("a: [1\nb: }")


def test_require_plain_yaml_of_similar_text_passes() -> None:
    require_resolved("costs $5 {or more}")
