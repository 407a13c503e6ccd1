import numpy as np
import pandas as pd
import pytest

from medseg.config.components import build
from medseg.config.compose import compose
from medseg.diagnosis.clinical_rules import RetinopathyGrade, ScoreThreshold, VolumeSlope, slope_states
from medseg.errors import DataError

TDS = ScoreThreshold({"m.a": 1.3, "m.b": 0.1, "m.c": 0.5, "m.d": 0.5}, limits=(5.45,), doubtful=(4.75, 5.45))


def measures(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame({f"m.{name}": values for name, values in columns.items()})


def test_points_follow_the_abcd_rule_by_hand() -> None:
    table = measures(a=[0, 2, 1], b=[0, 8, 5], c=[2, 6, 4], d=[2, 5, 3])
    # 2.0 benign; 2.6 + .8 + 3 + 2.5 = 8.9, the highest there is; 1.3 + .5 + 2 + 1.5 = 5.3 suspicious
    margins = TDS.margins(table)
    assert margins[:, 1] - margins[:, 0] == pytest.approx([2.0 - 5.45, 8.9 - 5.45, 5.3 - 5.45])
    assert [bool(doubt) for doubt in TDS.review_reasons(table)] == [False, False, True]
    sheet = TDS.sheet({"m.a": 2, "m.b": 8, "m.c": 6, "m.d": 5})
    assert [row["points"] for row in sheet] == pytest.approx([2.6, 0.8, 3.0, 2.5, 8.9])


def test_points_of_three_classes_are_cut_at_both_limits() -> None:
    rule = ScoreThreshold({"m.a": 1.0}, limits=(1.0, 2.0))
    assert rule.margins(measures(a=[0.5, 1.5, 2.5])).argmax(axis=1).tolist() == [0, 1, 2]


def test_an_undefined_measure_gives_no_points() -> None:
    margins = TDS.margins(measures(a=[np.nan], b=[1], c=[1], d=[1]))
    assert np.isnan(margins[0, 1])
    assert TDS.review_reasons(measures(a=[np.nan], b=[1], c=[1], d=[1])) == ["the rule says nothing, undefined: m.a"]
    with pytest.raises(DataError, match=r"m\.d"):
        TDS.margins(measures(a=[1], b=[1], c=[1]))


def eyes(*rows: tuple[float, float, float, float]) -> pd.DataFrame:
    """Red lesions, those of them that are haemorrhages by their size, the fewest of those in a quadrant, bright."""
    names = [f"haemorrhages.{name}" for name in ("count", "count_large", "fewest_large_in_quadrant")]
    return pd.DataFrame(list(rows), columns=[*names, "hard_exudates.count"])


@pytest.mark.parametrize(
    ("eye", "grade"),
    [
        ((0, 0, 0, 0), 0),
        ((2, 0, 0, 0), 1),  # microaneurysms
        ((90, 0, 0, 0), 1),  # many of them are still no haemorrhage
        ((0, np.nan, np.nan, 0), 0),  # no disc was found, and no lesion
        ((1, 1, 0, 0), 2),
        ((1, 0, 0, 1), 2),
        ((100, 60, 20, 0), 2),
        ((100, 60, 21, 0), 3),
    ],
)
def test_grades_from_counts(eye: tuple[float, float, float, float], grade: int) -> None:
    rule = RetinopathyGrade()
    assert rule.grades(eyes(eye)).tolist() == [grade]
    assert rule.margins(eyes(eye)).argmax(axis=1).tolist() == [grade]
    assert ("cannot exclude proliferative" in rule.review_reasons(eyes(eye))[0]) == (grade > 0)


def test_lesions_that_the_segmenter_invents_are_left_out_of_account() -> None:
    table = eyes((4, 1, 0, 1), (5, 3, 0, 1), (5, 5, 0, 1), (4, 1, 0, 2), (100, 60, 21, 0))
    assert RetinopathyGrade().grades(table).tolist() == [2, 2, 2, 2, 3]
    rule = RetinopathyGrade(false_positives_per_image={"haemorrhages": 4.5, "hard_exudates": 1.0})
    assert rule.grades(table).tolist() == [0, 1, 2, 2, 2]
    assert rule.grades(eyes((100, 90, 22, 0))).tolist() == [3]  # a quarter of 4.5 in each quadrant


def test_an_eye_without_counts_has_no_grade() -> None:
    assert np.isnan(RetinopathyGrade().grades(eyes((np.nan, 1, 1, 1), (1, np.nan, 0, 0)))).all()
    assert RetinopathyGrade().review_reasons(eyes((1, np.nan, 0, 0))) == [
        "the rule says nothing, undefined: haemorrhages.count_large"
    ]
    with pytest.raises(DataError, match=r"haemorrhages\.count_large"):
        RetinopathyGrade().grades(eyes((1, 1, 1, 1)).drop(columns="haemorrhages.count_large"))


def test_the_slope_of_a_sine_is_its_cosine() -> None:
    times = np.arange(0, 12, 0.2)
    volume = 3000 + 400 * np.sin(2 * np.pi * times / 4)
    slope = slope_states(volume, times)
    inner = slice(2, -2)
    assert np.corrcoef(slope[inner], np.cos(2 * np.pi * times[inner] / 4))[0, 1] > 0.99
    table = pd.DataFrame({"left": volume / 2, "right": volume / 2})
    states = VolumeSlope(["left", "right"]).margins_over_time(table, times).argmax(axis=1)
    truth = np.cos(2 * np.pi * times / 4) > 0
    assert (states == truth).mean() > 0.93


def test_a_missing_frame_leaves_the_others() -> None:
    times = np.arange(6.0)
    volume = np.array([0, 1, np.nan, 3, 4, 5])
    assert slope_states(volume, times)[[0, 1, 3, 4, 5]] == pytest.approx(np.ones(5))


@pytest.mark.parametrize(("near", "bright", "said"), [(0, 3, False), (2, 3, True), (1, 1, False)])
def test_exudate_in_the_macula_is_said(near: float, bright: float, said: bool) -> None:
    rule = RetinopathyGrade(false_positives_per_image={"hard_exudates": 1.0})
    table = eyes((5, 2, 0, bright)).assign(**{"hard_exudates.count_macula": near})
    assert ("macular oedema" in rule.review_reasons(table)[0]) == said


@pytest.mark.parametrize(
    ("asymmetry", "border", "colours", "structures", "malignant", "suspicious"),
    [
        (2, 4, 3, 0.4, False, False),  # 2.6 + .4 + 1.5 + .2 = 4.70: benign
        (2, 4, 3, 0.6, False, True),  # 4.80: suspicious
        (2, 4, 4, 0.8, False, True),  # 5.40: suspicious
        (2, 4, 4, 1.0, True, False),  # 5.50: malignant
    ],
)
def test_skin_recipe_follows_the_published_total_dermoscopy_score(
    asymmetry: float, border: float, colours: float, structures: float, malignant: bool, suspicious: bool
) -> None:
    """Stolz et al. 1994: A·1.3 + B·.1 + C·.5 + D·.5; below 4.75 benign, above 5.45 malignant, suspicious between."""
    rule = build(compose(["organ=skin"]).organ.clinical_rule)
    columns = {"lesion.a": asymmetry, "lesion.b": border, "lesion.c": colours, "lesion.d": structures}
    table = pd.DataFrame({name: [float(value)] for name, value in columns.items()})
    margins = rule.margins(table)
    assert bool(margins[0].argmax() == 1) == malignant
    assert bool(rule.review_reasons(table)[0]) == suspicious
