"""Every organ fits every choice of every group, and every YAML file is reached."""

import itertools
from pathlib import Path

import pytest
import torch

from medseg.config import build, compose, config_dir, group_choices
from medseg.data.augment import Augment
from medseg.errors import ConfigError
from medseg.pipeline import Preprocess
from medseg.segmenter import input_channels, make_network

CHOICES = group_choices()
NETWORKS = [name for name in CHOICES["segmenter"] if name.startswith("unet")]
PRODUCT = [
    (organ, group, name)
    for organ, (group, names) in itertools.product(CHOICES["organ"], CHOICES.items())
    for name in names
    if group not in ("organ", "local")
]


@pytest.mark.parametrize(("organ", "group", "name"), PRODUCT)
def test_every_organ_composes_with_every_choice(organ: str, group: str, name: str) -> None:
    config = compose([f"organ={organ}", f"{group}={name}"])
    assert config.organ.name == organ


@pytest.mark.parametrize("organ", CHOICES["organ"])
def test_every_organ_composes_for_a_diagnosis(organ: str) -> None:
    assert compose([f"organ={organ}", "task=diagnosis"]).task == "diagnosis"


@pytest.mark.parametrize("organ", CHOICES["organ"])
@pytest.mark.parametrize("segmenter", NETWORKS)
def test_every_organ_trains_one_batch_with_every_network(organ: str, segmenter: str) -> None:
    config = compose([f"organ={organ}", f"segmenter={segmenter}", "segmenter.network.width=2"])
    network = make_network(config)
    sizes = tuple(2 ** (config.segmenter.network.depth + 1) for _ in config.segmenter.patch)
    image = torch.rand(2, input_channels(config), *sizes)
    target = torch.randint(len(config.organ.labels) + 1, (2, *sizes))
    loss = build(config.segmenter.loss)(network(image), target)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("organ", "augment"), list(itertools.product(CHOICES["organ"], CHOICES["augment"])))
def test_every_augmentation_is_known_to_albumentations(organ: str, augment: str) -> None:
    config = compose([f"organ={organ}", f"augment={augment}"])
    Augment(dict(config.augment.mirror), {n: dict(v) for n, v in config.augment.transforms.items()}, [])
    for step in config.augment.get("paint", {}).values():
        if set(step.inside) <= set(config.organ.labels):
            build(step)
        else:  # says which labels it needs
            with pytest.raises(ConfigError, match=r"augment\.paint"):
                build(step)


PREPROCESSING = [name for name in CHOICES["preprocess"] if name != "auto"]  # a plan fills that one in


@pytest.mark.parametrize(("organ", "preprocess"), list(itertools.product(CHOICES["organ"], PREPROCESSING)))
def test_every_preprocessing_builds(organ: str, preprocess: str) -> None:
    assert Preprocess(compose([f"organ={organ}", f"preprocess={preprocess}"])).steps


@pytest.mark.parametrize("file", sorted(config_dir().rglob("*.yaml")), ids=lambda p: str(p.relative_to(config_dir())))
def test_every_file_says_what_it_is_for(file: Path) -> None:
    assert file.read_text().startswith("# ")


@pytest.mark.parametrize("organ", CHOICES["organ"])
def test_codes_are_of_labels_that_the_organ_has(organ: str) -> None:
    facts = compose([f"organ={organ}"]).organ
    assert facts.codes
    assert set(facts.codes) <= set(facts.labels)
