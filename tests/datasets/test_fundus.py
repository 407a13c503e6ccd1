"""Which parts of a fundus dataset are read, and which lesions count as annotated."""

from pathlib import Path

from medseg.commands.prepare_dataset import prepare_dataset
from medseg.data.readers import read_cases
from tests.commands.test_prepare_dataset import idrid_seg, picture, square


def test_read_idrid_seg_ignores_images_of_other_parts(tmp_path: Path) -> None:
    """They would stand there with every lesion absent."""
    idrid_seg(tmp_path / "raw" / "A. Segmentation")
    for folder in ("B. Disease Grading", "C. Localization"):
        picture(tmp_path / "raw" / folder / "1. Original Images" / "a. Training Set" / "IDRiD_001.jpg", 7)
    case_log = prepare_dataset("idrid_seg", tmp_path / "raw", tmp_path / "out")
    assert {entry.case for entry in case_log.entries} == {"IDRiD_01", "IDRiD_55"}


def test_read_idrid_seg_lesions_are_absent_only_if_annotated(tmp_path: Path) -> None:
    idrid_seg(tmp_path / "raw")
    ground_truth = tmp_path / "raw" / "2. All Segmentation Groundtruths" / "b. Testing Set"
    for file in ground_truth.rglob("*.tif"):
        file.unlink()  # such as the ground truth of the testing set, which was not unpacked
    prepare_dataset("idrid_seg", tmp_path / "raw", tmp_path / "out")
    cases = {case.name: case for case in read_cases(tmp_path / "out", ["photo"])}
    assert not cases["IDRiD_55"].annotated
    assert "soft_exudates" not in cases["IDRiD_01"].masks  # no file of this type at all
    square(ground_truth / "4. Soft Exudates" / "IDRiD_55_SE.tif", 3, 5, 76)
    prepare_dataset("idrid_seg", tmp_path / "raw", tmp_path / "again")
    cases = {case.name: case for case in read_cases(tmp_path / "again", ["photo"])}
    assert cases["IDRiD_01"].masks["soft_exudates"] is None
