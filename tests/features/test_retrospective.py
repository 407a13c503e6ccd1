"""Features of a whole sequence are known as such by their function, and in a table by what lies beside it."""

from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from medseg.errors import DataError
from medseg.features import size
from medseg.features.respiration.motion import motion_features
from medseg.features.retrospective import is_retrospective
from medseg.features.tables import Tables, read_tables, write_tables


def test_is_retrospective_is_told_of_the_function_and_of_its_partial() -> None:
    assert is_retrospective(motion_features)
    assert is_retrospective(partial(motion_features, reach=0.2))
    assert not is_retrospective(size.frame_features)
    assert not is_retrospective(partial(size.frame_features))


def test_tables_keep_the_names_of_retrospective_columns(tmp_path: Path) -> None:
    frames = pd.DataFrame({"case": ["a"], "patient": ["a"], "frame": [0], "label": ["x"], "motion.pc1": [0.5]})
    write_tables(Tables(frames, None, {}, ("motion.pc1",)), tmp_path / "f.csv")
    assert read_tables(tmp_path / "f.csv").retrospective == ("motion.pc1",)
    write_tables(Tables(frames, None), tmp_path / "f.csv")
    assert read_tables(tmp_path / "f.csv").retrospective == ()
    assert [path.name for path in tmp_path.iterdir()] == ["f.csv"]


@pytest.mark.parametrize("text", ["{", '{"a": 1}'])
def test_tables_with_a_broken_list_of_retrospective_columns_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.csv").write_text("case,frame,m\na,0,1\n")
    (tmp_path / "f_retrospective.json").write_text(text)
    with pytest.raises(DataError, match="extract the features again"):
        read_tables(tmp_path / "f.csv")
