from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.cases import Columns, frame_of
from medseg.data.readers import read_cases
from medseg.errors import DataError


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4), np.uint8)), str(path))
    return path


def table(root: Path, text: str) -> Path:
    for name in ("a.png", "b.png", "m.png"):
        picture(root / name)
    (root / "cases.csv").write_text(text)
    return root


def test_cases_csv_says_everything(tmp_path: Path) -> None:
    root = table(
        tmp_path,
        "case,patient,image,mask,label,frame,time,signal,split\n"
        "x,P1,a.png,m.png,inhale,0,0.5,0.25,train\nx,P1,b.png,,exhale,1,1.0,,train\ny,P2,a.png,,,,,,val\n",
    )
    first, second, third = read_cases(root, ["ct"])
    assert (first.name, first.patient, first.label, first.time, first.signal) == (
        "x_frame000",
        "P1",
        "inhale",
        0.5,
        0.25,
    )
    assert first.mask == root / "m.png"
    assert (second.frame, second.mask, second.signal) == (1, None, None)
    assert (third.name, third.split, third.frame) == ("y", "valid", None)


def test_channels_have_a_column_each(tmp_path: Path) -> None:
    root = table(tmp_path, "case,image_flair,image_t1c\nx,a.png,b.png\n")
    (case,) = read_cases(root, ["flair", "t1c"])
    assert {name: path.name for name, path in case.images.items()} == {"flair": "a.png", "t1c": "b.png"}
    assert case.image.name == "a.png"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient,image\nP,a.png\n", "column 'case' is missing; it has patient, image"),
        ("case,image\nx,\n", "line 2: no image"),
        ("case,image\n,a.png\n", "line 2: no case name"),
        ("case,image,frame\nx,a.png,one\n", "line 2: frame='one' is not a whole number"),
        ("case,image,split\nx,a.png,maybe\n", "split 'maybe' must be train, valid or test"),
        ("case,image\nx,a.png\nx,b.png\n", "x occurs more than once"),
        ("case,image\n", "no case found"),
        ("", "is empty"),
        ("case,image\nx,a.png\n\ny,b.png,train\n", "line 4: has 3 cells for 2 columns"),
        ("case,image,image\nx,a.png,b.png\n", "line 1: column 'image' occurs twice"),
        ('case,image\nx,"a.png\n', "line 2: unexpected end of data"),
        ("case,image,time\nx,a.png,nan\n", "line 2: time='nan' is not finite"),
        ("case,image\n../../x,a.png\n", "line 2: case='../../x' leads out of the output folder"),
        ("case,image\n/tmp/x,a.png\n", "line 2: case='/tmp/x' leads out of the output folder"),
        ('case,image\n"x\ny",a.png\n', r"line 3: case='x\\ny' leads out of the output folder"),
    ],
)
def test_a_wrong_table_names_line_and_value(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read_cases(table(tmp_path, text), ["ct"])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text", ["case;image\r\nx;a.png\r\n", "\ufeffcase\timage\nx\ta.png\n", ",case,image\n0,x,a.png\n"]
)
def test_tables_as_other_programs_write_them(tmp_path: Path, text: str) -> None:
    (case,) = read_cases(table(tmp_path, text), ["ct"])
    assert (case.name, case.image) == ("x", tmp_path / "a.png")


def test_folders_are_matched_by_stem_whatever_the_ending(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "site1" / "a.jpg")
    picture(tmp_path / "images" / "b.png")
    picture(tmp_path / "labels" / "site1" / "a.png")
    (tmp_path / "labels.csv").write_text("name,who,grade,part\na,P7,2,train\nb,P8,1,test\n")
    found = read_cases(tmp_path, ["rgb"], Columns(split="part", label="grade", patient="who"))
    a, b = sorted(found, key=lambda case: case.patient)
    assert (a.id, a.patient, a.label, a.split) == ("site1/a", "P7", "2", "train")
    assert a.mask == tmp_path / "labels" / "site1" / "a.png"
    assert (b.id, b.mask, b.split) == ("b", None, "test")


def test_a_mask_suffix_is_stated(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "masks" / "a_segmentation.png")
    with pytest.raises(DataError, match=r"data\.mask_suffix"):
        read_cases(tmp_path, ["rgb"])
    (case,) = read_cases(tmp_path, ["rgb"], Columns(mask_suffix="_segmentation"))
    assert case.mask is not None


def test_a_bare_folder_gives_cases_and_an_empty_one_says_what_is_read(tmp_path: Path) -> None:
    picture(tmp_path / "one" / "a.png")
    assert [case.id for case in read_cases(tmp_path / "one", ["g"])] == ["a"]
    (tmp_path / "two").mkdir()
    with pytest.raises(DataError, match=r"cases\.csv; or images/"):
        read_cases(tmp_path / "two", ["g"])
    with pytest.raises(DataError, match="no such folder"):
        read_cases(tmp_path / "three", ["g"])


def test_two_files_of_one_name_are_two_cases_but_no_guess_at_a_mask(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "a.bmp")
    assert [case.id for case in read_cases(tmp_path, ["g"])] == ["a", "a.png"]
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "a.bmp")
    with pytest.raises(DataError, match="have one name"):
        read_cases(tmp_path, ["g"])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("P1/frame_003", ("P1", 3)),
        ("118_HM10395_phase07", ("118_HM10395", 7)),
        ("site/P1_time-12", ("site/P1", 12)),
        ("P1_t2", ("P1_t2", None)),
        ("scan12", ("scan12", None)),
        ("LCTSC-Test-S1-101", ("LCTSC-Test-S1-101", None)),
        ("frame_001", ("frame_001", 1)),
        ("exact", ("exact", None)),
    ],
)
def test_a_frame_is_known_by_its_name(name: str, wanted: tuple[str, int | None]) -> None:
    assert frame_of(name) == wanted


def test_a_phase_folder_is_one_sequence(tmp_path: Path) -> None:
    for phase in (0, 10, 50):
        picture(tmp_path / "P1" / f"phase_{phase:02d}.png")
    picture(tmp_path / "P2.png")
    found = read_cases(tmp_path, ["ct"])
    assert sorted((case.id, case.frame) for case in found if case.id == "P1") == [("P1", 0), ("P1", 10), ("P1", 50)]
    assert [case.name for case in read_cases(tmp_path, ["ct"], pattern="P2*")] == ["P2"]


def test_several_channels_are_named_by_what_follows_the_case(tmp_path: Path) -> None:
    for name in ("images/p1_flair", "images/p1_t1c", "images/p2_flair", "images/p2_t1c", "labels/p1"):
        picture(tmp_path / f"{name}.nii.gz")
    one, two = read_cases(tmp_path, ["flair", "t1c"])
    assert (one.id, one.images["t1c"].name, one.mask) == ("p1", "p1_t1c.nii.gz", tmp_path / "labels" / "p1.nii.gz")
    assert (two.id, two.mask) == ("p2", None)
    (tmp_path / "images" / "p2_t1c.nii.gz").unlink()
    with pytest.raises(DataError, match=r"p2 has no file p2_t1c\.\* for channel 't1c'"):
        read_cases(tmp_path, ["flair", "t1c"])


def test_each_label_may_have_its_own_file(tmp_path: Path) -> None:
    for name in ("images/a", "images/b", "masks/a_EX", "masks/a_HE", "masks/b_EX"):
        picture(tmp_path / f"{name}.png")
    suffix = {"dark": "_HE", "bright": "_EX"}
    a, b = read_cases(tmp_path, ["photo"], Columns(mask_suffix=suffix, missing_mask="absent"))
    assert a.masks == {"dark": tmp_path / "masks" / "a_HE.png", "bright": tmp_path / "masks" / "a_EX.png"}
    assert b.masks == {"dark": None, "bright": tmp_path / "masks" / "b_EX.png"}
    _, b = read_cases(tmp_path, ["photo"], Columns(mask_suffix=suffix))
    assert b.masks == {"bright": tmp_path / "masks" / "b_EX.png"}


def test_a_table_may_name_a_file_for_each_label_and_the_values_of_a_map(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("case,image,mask_dark,mask_bright,mask_disc\na,a.png,d.png,absent,\n")
    (case,) = read_cases(tmp_path, ["photo"])
    assert case.masks == {"dark": tmp_path / "d.png", "bright": None}
    (tmp_path / "labels.json").write_text('{"lesion": [1, 255], "ring": 2}')
    assert read_cases(tmp_path, ["photo"])[0].values == {"lesion": (1, 255), "ring": (2,)}
    assert read_cases(tmp_path, ["photo"], Columns(mask_values={"lesion": 7}))[0].values == {"lesion": (7,)}


def test_read_cases_with_a_column_of_folds_holds_out_the_chosen_one(tmp_path: Path) -> None:
    root = table(tmp_path, "case,image,fold\nx,a.png,1\ny,b.png,2\nz,c.png,1\n")
    cases = read_cases(root, ["photo"], Columns(fold="fold", held_out_fold=1))
    assert {case.id: case.split for case in cases} == {"x": "test", "y": "train", "z": "test"}
    table(tmp_path, "case,image,fold\nx,a.png,1\ny,b.png,\n")
    with pytest.raises(DataError, match="line 3: has no fold in column 'fold'"):
        read_cases(root, ["photo"], Columns(fold="fold", held_out_fold=1))
