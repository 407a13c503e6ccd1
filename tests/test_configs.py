"""Every organ fits every choice of every group, and every YAML file is reached."""

import functools
import itertools
from pathlib import Path

import pytest
import torch

from medseg.config.components import build
from medseg.config.compose import compose, config_dir, group_choices
from medseg.config.settings import Settings
from medseg.data.augmentation import Augment
from medseg.errors import ConfigError
from medseg.inference.preprocessor import Preprocessor
from medseg.inference.segmenter import input_channels, make_network

CHOICES = group_choices()
NETWORKS = [name for name in CHOICES["segmenter"] if name.startswith("unet")]
GROUPS = {group: names for group, names in CHOICES.items() if group not in ("organ", "local")}
# round n takes choice n of every group at once, so that few compositions show each
ROUNDS = list(itertools.product(CHOICES["organ"], range(max(map(len, GROUPS.values())))))


@functools.cache
def composed(organ: str, number: int) -> Settings:
    chosen = [f"{group}={names[number % len(names)]}" for group, names in GROUPS.items()]
    return compose([f"organ={organ}", *chosen])


@pytest.mark.parametrize(("organ", "number"), ROUNDS)
def test_every_organ_composes_with_every_choice(organ: str, number: int) -> None:
    assert composed(organ, number).organ.name == organ


@pytest.mark.parametrize("organ", CHOICES["organ"])
def test_every_organ_composes_for_a_diagnosis(organ: str) -> None:
    assert compose([f"organ={organ}", "task=diagnosis"]).task == "diagnosis"


@pytest.mark.parametrize("organ", CHOICES["organ"])
@pytest.mark.parametrize("segmenter", NETWORKS)
def test_every_organ_trains_one_batch_with_every_network(organ: str, segmenter: str) -> None:
    config = compose([f"organ={organ}", f"segmenter={segmenter}", "segmenter.network.width=2"])
    network = make_network(config)
    planned = config.unet().planned()
    sizes = tuple(2 ** (planned.depth + 1) for _ in planned.patch)
    image = torch.rand(2, input_channels(config), *sizes)
    target = torch.randint(len(config.organ.labels) + 1, (2, *sizes))
    loss = build(config.unet().loss)(network(image), target)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("organ", "number"), ROUNDS)
def test_every_augmentation_is_known_to_albumentations(organ: str, number: int) -> None:
    config = composed(organ, number)
    artefacts = [build(step) for step in config.augment.artefacts.values() if step is not None]
    Augment(config.augment.mirror, config.augment.transforms, [], [], artefacts)
    for step in config.augment.synthetic_lesions.values():
        if set(step["inside"]) <= set(config.organ.labels):
            build(step)
        else:  # says which labels it needs
            with pytest.raises(ConfigError, match=r"augment\.synthetic_lesions"):
                build(step)


@pytest.mark.parametrize(("organ", "number"), ROUNDS)
def test_every_preprocessing_builds(organ: str, number: int) -> None:
    config = composed(organ, number)
    if "auto" not in config.preprocess.values():  # a plan fills that one in
        assert Preprocessor(config).steps


@pytest.mark.parametrize("file", sorted(config_dir().rglob("*.yaml")), ids=lambda p: str(p.relative_to(config_dir())))
def test_every_file_says_what_it_is_for(file: Path) -> None:
    assert file.read_text().startswith("# ")


@pytest.mark.parametrize("organ", CHOICES["organ"])
def test_codes_are_of_labels_that_the_organ_has(organ: str) -> None:
    facts = compose([f"organ={organ}"]).organ
    assert facts.snomed_codes
    assert set(facts.snomed_codes) <= set(facts.labels)
