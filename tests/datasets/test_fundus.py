"""What of a fundus dataset's parts is taken, and what counts as looked for."""

from pathlib import Path

from medseg.commands.prepare_dataset import prepare_dataset
from medseg.data.readers import read_cases
from tests.commands.test_prepare_dataset import idrid_seg, square, write_image_2d


def test_idrid_images_of_other_parts_are_no_segmentation_images(tmp_path: Path) -> None:
    """They would stand there with every lesion absent."""
    idrid_seg(tmp_path / "raw" / "A. Segmentation")
    for part in ("B. Disease Grading", "C. Localization"):
        write_image_2d(tmp_path / "raw" / part / "1. Original Images" / "a. Training Set" / "IDRiD_001.jpg", 7)
    ledger = prepare_dataset("idrid_seg", tmp_path / "raw", tmp_path / "out")
    assert {entry.case for entry in ledger.entries} == {"IDRiD_01", "IDRiD_55"}


def test_idrid_lesions_are_absent_only_where_they_were_looked_for(tmp_path: Path) -> None:
    idrid_seg(tmp_path / "raw")
    truth = tmp_path / "raw" / "2. All Segmentation Groundtruths" / "b. Testing Set"
    for file in truth.rglob("*.tif"):
        file.unlink()  # such as the ground truth of the testing set, which was not unpacked
    prepare_dataset("idrid_seg", tmp_path / "raw", tmp_path / "out")
    cases = {case.name: case for case in read_cases(tmp_path / "out", ["photo"])}
    assert not cases["IDRiD_55"].annotated
    assert "soft_exudates" not in cases["IDRiD_01"].masks  # no file of this type at all
    square(truth / "4. Soft Exudates" / "IDRiD_55_SE.tif", 3, 5, 76)
    prepare_dataset("idrid_seg", tmp_path / "raw", tmp_path / "again")
    cases = {case.name: case for case in read_cases(tmp_path / "again", ["photo"])}
    assert cases["IDRiD_01"].masks["soft_exudates"] is None
