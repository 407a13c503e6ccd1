import pytest

from medseg.errors import DataError
from medseg.segmentation.planner import decide

GB = 1e9


def facts(size: list[float], spacing: list[float], diameter: float, low: float = 0.0, components: int = 1) -> dict:
    intensity = {"p0.5": low, "p99.5": 100.0, "min": low}
    return {
        "size": size, "spacing_mm": spacing, "diameter_mm": {"a": diameter}, "components": components,
        "intensity": {"c": intensity},
    }  # fmt: skip


def test_thick_slices_are_learnt_as_slices_even_on_a_gpu() -> None:
    plan = decide(facts([320, 320, 20], [0.6, 0.6, 5.0], 30), "cuda", 4 * GB)
    assert plan["segmenter.network.dimensions"].value == 2
    assert "apart" in plan["segmenter.network.dimensions"].reason
    assert plan["organ.spacing_mm"].value == [0.6, 0.6, None]


def test_an_isotropic_volume_is_a_volume_on_a_gpu_and_slices_without() -> None:
    fingerprint = facts([180, 200, 160], [1.0, 1.0, 1.0], 40)
    assert decide(fingerprint, "cuda", 4 * GB)["segmenter.network.dimensions"].value == 3
    assert decide(fingerprint, "cpu", 4 * GB)["segmenter.network.dimensions"].value == 2


def test_ct_gets_a_window_mri_a_z_score_and_a_photograph_its_range() -> None:
    ct = decide(facts([256, 256, 90], [1.5, 1.5, 3], 100, low=-900.0), "cpu", GB)["preprocess.intensity"].value
    assert ct == {"_target_": "medseg.preprocess.intensity.Window", "low": -900.0, "high": 100.0}
    mri = decide(facts([200, 200, 90], [1, 1, 1], 50), "cpu", GB)["preprocess.intensity"].value
    assert mri["_target_"].endswith("ZScore")
    photo = decide(facts([600, 450], [1, 1], 200, components=3), "cpu", GB)["preprocess.intensity"].value
    assert photo == {"_target_": "medseg.preprocess.intensity.Photo", "colour": True}


def test_a_large_structure_is_seen_in_a_whole_picture_and_a_tiny_one_at_full_size() -> None:
    whole = decide(facts([1024, 768], [1, 1], 400), "cpu", GB)
    assert whole["organ.image_size"].value == [128, 128]
    assert whole["preprocess.grid"].value["_target_"].endswith("Resize")
    tiny = decide(facts([4000, 3000], [1, 1], 20), "cpu", GB)
    assert tiny["segmenter.patch_size"].value == [256, 256]
    assert tiny["preprocess.grid"].value is None
    assert "0.5%" in tiny["segmenter.patch_size"].reason


@pytest.mark.parametrize("size", [[97, 201, 30], [512, 512, 300], [40, 44, 12], [20, 20, 8]])
def test_every_patch_can_be_halved_as_often_as_the_depth_says(size: list[float]) -> None:
    plan = decide(facts(size, [1, 1, 3], 9), "cpu", GB)
    depth = plan["segmenter.network.depth"].value
    assert all(n % 2**depth == 0 and n >= 2**depth for n in plan["segmenter.patch_size"].value)


def test_memory_bounds_the_batch() -> None:
    fingerprint = facts([256, 256, 90], [1, 1, 3], 50)
    assert (
        decide(fingerprint, "cpu", 0.1 * GB)["segmenter.batch_size"].value
        < decide(fingerprint, "cpu", 4 * GB)["segmenter.batch_size"].value
    )
    assert decide(fingerprint, "cpu", 0.0)["segmenter.batch_size"].value == 2


def test_every_decision_has_its_reason() -> None:
    assert all(decision.reason for decision in decide(facts([256, 256, 90], [1, 1, 3], 50), "cpu", GB).values())


@pytest.mark.parametrize("size", [[64, 64], [64, 64, 20]])
def test_masks_that_show_nothing_are_an_error_with_the_way_out(size: list[float]) -> None:
    with pytest.raises(DataError, match=r"no training mask shows any label.*data\.mask_values"):
        decide(facts(size, [1.0] * len(size), 1) | {"diameter_mm": {}}, "cpu", GB)
