import numpy as np
import pytest

from medseg.utils.json import finite_or_none, join_distinct


@pytest.mark.parametrize("value", [None, np.nan, np.inf, -np.inf, np.float32("nan")])
def test_finite_or_none_undefined_is_null(value: object) -> None:
    assert finite_or_none(value) is None


def test_finite_or_none_number_is_a_float_of_python() -> None:
    assert type(finite_or_none(np.float32(0.5))) is type(finite_or_none(np.int64(2))) is float


def test_join_distinct_keeps_order_and_skips_blanks() -> None:
    assert join_distinct(["b", "", "a", np.nan, None, "b"]) == "b; a"
    assert join_distinct([]) == ""
