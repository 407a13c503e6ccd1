import pytest

from medseg.data.fingerprint import image_ranges


def test_ranges_are_those_of_the_cases_channel_by_channel() -> None:
    looks = [{"t1": {"axes": 3.0, "components": 1.0, "spacing": s, "contrast": c}} for s, c in [(1, 5), (2, 7), (4, 6)]]
    found = image_ranges([{**look, "flair": look["t1"]} for look in looks])
    assert found["t1"]["ranges"] == {"axes": [3, 3], "components": [1, 1], "spacing": [1, 4], "contrast": [5, 7]}
    assert (found["t1"]["cases"], found["t1"]["contrast"]) == (3, 6)
    assert found["flair"] == found["t1"]
    assert image_ranges([]) == {}


def test_of_many_cases_the_utmost_do_not_count_but_every_kind_does() -> None:
    looks = [{"x": {"axes": 2.0, "components": 3.0, "value": float(k), "contrast": 1.0}} for k in range(201)]
    looks[7]["x"]["components"] = 1.0
    ranges = image_ranges(looks)["x"]["ranges"]
    assert ranges["value"] == pytest.approx([2, 198])
    assert ranges["components"] == [1, 3]


def test_a_measure_that_some_case_lacks_has_no_range() -> None:
    looks = [{"x": {"axes": 2.0, "contrast": 1.0, "red": 0.4}}, {"x": {"axes": 2.0, "contrast": 0.0}}]
    assert set(image_ranges(looks)["x"]["ranges"]) == {"axes", "contrast"}
