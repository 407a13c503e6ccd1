"""Tables of cases drawn by chance: the right cases, or a DataError that names the line or the column."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.cases import SPLIT_NAMES
from medseg.data.readers import read_cases
from medseg.errors import DataError

FEW = settings(max_examples=60, deadline=None, derandomize=True)
COLUMNS = ["case", "image", "patient", "label", "frame", "time", "split", "mask", "note"]
plain = st.text(st.characters(blacklist_categories=("Cc", "Cs")), min_size=1, max_size=12).map(str.strip).filter(bool)
names = plain.filter(lambda text: ".." not in Path(text).parts and not text.startswith("/"))
paths = st.one_of(names, names.map("../other/{}".format), names.map("/data/{}".format))
wild = st.text("abx/\\.,;\t\"'\n\r \0é0123456789-+eNnaI\ufeff", max_size=8)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[dict[str, str]], str]:
    """A good table as text, its rows, and the delimiter: quoting, order of columns, line ends and mark as they come."""
    columns = draw(st.permutations(COLUMNS))
    rows = [
        {
            "case": f"{draw(names)}-{number}",
            "image": draw(paths),
            "patient": draw(plain),
            "label": draw(plain),
            "frame": str(draw(st.integers(0, 999))),
            "time": str(draw(st.floats(-1e6, 1e6))),
            "split": draw(st.sampled_from(sorted(SPLIT_NAMES))),
            "mask": draw(st.one_of(st.just(""), paths)),
            "note": draw(st.one_of(st.just(""), plain, st.just("two\nlines"))),
        }
        for number in range(draw(st.integers(1, 4)))
    ]
    delimiter, end = draw(st.sampled_from([",", ";", "\t"])), draw(st.sampled_from(["\n", "\r\n"]))
    stream = io.StringIO(newline="")
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.DictWriter(stream, columns, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writeheader()
    for row in rows:
        writer.writerow(row)
        stream.write(draw(st.sampled_from(["", end, delimiter * 3 + end])))  # blank lines
    return draw(st.sampled_from(["", "\ufeff"])) + stream.getvalue(), rows, delimiter


@FEW
@given(tables())
def test_a_good_table_gives_its_cases(made: tuple[str, list[dict[str, str]], str]) -> None:
    text, rows, _ = made
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "cases.csv").write_bytes(text.encode())
        cases = read_cases(root, ["ct"])
        assert [(case.id, case.image, case.patient, case.label) for case in cases] == [
            (row["case"], root / row["image"], row["patient"], row["label"]) for row in rows
        ]
        assert [(case.frame, case.time, case.split) for case in cases] == [
            (int(row["frame"]), float(row["time"]), SPLIT_NAMES[row["split"]]) for row in rows
        ]
        assert [case.mask for case in cases] == [root / row["mask"] if row["mask"] else None for row in rows]


@FEW
@given(tables(), st.data())
def test_a_spoilt_table_gives_cases_below_the_output_or_an_error_that_says_where(
    made: tuple[str, list[dict[str, str]], str], data: st.DataObject
) -> None:
    text = made[0]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + data.draw(wild) + text[place + data.draw(st.integers(0, 6)) :]
    content = text.encode() + data.draw(st.sampled_from([b"", b"", b"", b"\xff\xfe"]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cases.csv"
        file.write_bytes(content)
        try:
            cases = read_cases(Path(folder), ["ct"])
        except DataError as error:
            message = str(error)
        else:
            message = ""
            assert len({case.name for case in cases}) == len(cases)
            out = Path(folder) / "out"
            assert all((out / case.name).resolve().is_relative_to(out.resolve()) for case in cases)
    places = ["line ", "column ", "no case found", "is empty", "in UTF-8", "more than once"]
    assert not message or ((str(file) in message or folder in message) and any(word in message for word in places)), (
        message
    )
