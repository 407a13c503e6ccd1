import numpy as np
import pandas as pd
import pytest

from medseg.errors import DataError
from medseg.features import sequences as seq


def frames(**columns):
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"case": "a", "patient": "p", "frame": range(count), "time": np.arange(count) * 0.5} | columns)


def steps(values, positions=(0.0, 10.0, 20.0)):
    """One row for each frame and slice of `values` (T, S)."""
    return pd.DataFrame(
        [
            {"case": "a", "frame": t, "step": s, "position_mm": positions[s], "lung.area_mm2": value}
            for t, row in enumerate(values)
            for s, value in enumerate(row)
        ]
    )


def test_a_table_becomes_one_sequence_a_case_in_order_of_frames():
    table = pd.concat([frames(f=[1.0, 2, 3], label=["x", "y", None]), frames(f=[7.0, 8]).assign(case="b")])
    first, second = seq.sequences(table.iloc[::-1])[::-1]
    assert (first.case, first.patient, first.names) == ("a", "p", ("f",))
    assert first.x[:, 0].tolist() == [1, 2, 3]
    assert first.labels == ("x", "y", None)
    assert first.times.tolist() == [0, 0.5, 1]
    assert np.isnan(second.signal).all()
    assert second.labels == (None, None)


def test_a_missing_value_is_filled_along_time_and_a_missing_feature_becomes_0():
    (sequence,) = seq.sequences(frames(f=[1.0, np.nan, 3, np.nan], g=[np.nan] * 4))
    assert sequence.x[:, 0].tolist() == [1, 2, 3, 3]
    assert np.isnan(sequence.x[:, 1]).all()
    assert (seq.normalise_case(sequence).x[:, 1] == 0).all()


def test_slices_are_resampled_between_the_extremes_of_the_sequence():
    values = [[0, 10.0, 20.0], [0, 30.0, 0]]  # the lowest slice never holds anything
    (sequence,) = seq.sequences(frames(f=[1.0, 2]), steps(values), levels=3)
    assert sequence.step_names == ("lung.area_mm2",)
    assert sequence.steps[:, :, 0].tolist() == [[10, 15, 20], [30, 15, 0]]


def test_a_frame_without_slices_and_a_level_without_a_measure_become_0():
    table = steps([[1.0, 2, 3], [np.nan, 5, 7], [1, 2, 3]])
    (sequence,) = seq.sequences(frames(f=[1.0, 2, 3]), table[table["frame"] != 2], levels=3)
    assert np.isnan(sequence.steps[1, 0, 0])
    assert np.isnan(sequence.steps[2]).all()
    done = seq.normalise_case(sequence)
    assert (done.steps[2] == 0).all()
    assert done.steps[1, 0, 0] == 0


def test_slopes_are_per_second_central_or_from_the_past_alone():
    (sequence,) = seq.sequences(frames(f=[0.0, 1, 4, 9]))
    central, backward = seq.add_slopes(sequence), seq.add_slopes(sequence, "backward")
    assert central.names == ("f", "f.slope")
    assert central.x[:, 1].tolist() == [2, 4, 8, 10]
    assert backward.x[:, 1].tolist() == [0, 2, 6, 10]
    (alone,) = seq.sequences(frames(f=[3.0]))
    assert seq.add_slopes(alone).x.tolist() == [[3, 0]]


def test_slopes_go_by_the_frame_numbers_where_times_are_unknown_and_frames_missing():
    table = frames(f=[0.0, 1, 2, 3]).drop(columns="time")
    (sequence,) = seq.sequences(table.drop(index=1))
    assert seq.add_slopes(sequence).x[:, 1] == pytest.approx([1, 1, 1])


def test_each_case_is_its_own_measure():
    (sequence,) = seq.sequences(
        frames(f=[1.0, 2, 3], g=[5.0, 5, 5]), steps([[1.0, 5, 5], [3, 5, 5], [5, 5, 5]]), levels=3
    )
    done = seq.normalise_case(sequence)
    assert done.x[:, 0] == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5)])
    assert done.x[:, 1].tolist() == [0, 0, 0]
    assert (done.steps[:, 1:] == 0).all()  # a level that does not change is silent
    assert done.steps[0, 0, 0] == pytest.approx(-done.steps[2, 0, 0])
    larger = seq.normalise_case(seq.sequences(frames(f=[10.0, 20, 30], g=[5.0, 5, 5]))[0])
    assert larger.x == pytest.approx(done.x)


def test_a_cohort_keeps_the_size_of_a_case():
    table = pd.concat([frames(f=[1.0, 3]), frames(f=[5.0, 7]).assign(case="b")])
    both = seq.sequences(table)
    moments = seq.cohort(both)
    assert moments.mean == (4.0,)
    assert moments.sd == pytest.approx((np.sqrt(5),))
    assert seq.normalise_cohort(both[1], moments).x[:, 0] == pytest.approx([1 / np.sqrt(5), 3 / np.sqrt(5)])


def test_features_are_taken_by_name_and_a_missing_one_is_named():
    (sequence,) = seq.sequences(frames(f=[1.0, 2], g=[3.0, 4]))
    assert seq.select(sequence, ["g", "f"]).x.tolist() == [[3, 1], [4, 2]]
    with pytest.raises(DataError, match="does not have: h"):
        seq.select(sequence, ["f", "h"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (frames(f=[1.0, 2]).drop(columns="frame"), "no column frame"),
        (frames(f=[1.0, 2]).assign(frame=0), "case a, frame 0 more than once"),
        (frames(label=["x", "y"]), "no numeric feature"),
    ],
)
def test_unfit_tables_are_refused_with_the_reason(table, message):
    with pytest.raises(DataError, match=message):
        seq.sequences(table)


def test_what_was_filled_in_is_told_from_what_was_measured() -> None:
    table = pd.DataFrame({"case": "a", "frame": range(4), "size": [1.0, np.nan, 3.0, np.nan]})
    (sequences,) = seq.sequences(table)
    assert sequences.x[:, 0].tolist() == [1, 2, 3, 3]
    np.testing.assert_array_equal(sequences.measured[:, 0], [1, np.nan, 3, np.nan])
    sloped = seq.add_slopes(sequences)
    assert sloped.measured.shape == sloped.x.shape
    assert np.isnan(sloped.measured[1]).all()


def test_sectors_stay_what_they_are() -> None:
    frames = pd.DataFrame({"case": ["a", "b"], "frame": 0, "size": 1.0})
    steps = frames[["case", "frame"]].merge(pd.DataFrame({"step": range(4)}), how="cross")
    steps["position_mm"] = 45.0 + 90 * steps["step"]
    steps["count"] = [1.0, 2, 3, 40, np.nan, 5, 6, 0]
    sequence, other = seq.sequences(frames, steps, levels=4, resample=False)
    assert sequence.steps[0, :, 0].tolist() == [1, 2, 3, 40]
    np.testing.assert_array_equal(other.steps[0, :, 0], [np.nan, 5, 6, 0])


def test_frame_values_are_as_measured_in_the_order_of_sequences() -> None:
    table = pd.DataFrame({"case": ["b", "a", "b"], "frame": [1, 0, 0], "m": [np.nan, 5.0, 3.0], "n": [1.0, 2.0, 4.0]})
    cases = [one.case for one in seq.sequences(table, without=("n",))]
    values = seq.frame_values(table, ["n", "m"])
    assert cases == ["b", "a"]
    assert np.array_equal(values[0], [[4, 3], [1, np.nan]], equal_nan=True)
    assert values[1].tolist() == [[2, 5]]
    assert seq.sequences(table, without=("n",))[0].names == ("m",)
    with pytest.raises(DataError, match="does not have: o; extract"):
        seq.frame_values(table, ["o"])
