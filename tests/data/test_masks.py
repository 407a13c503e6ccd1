from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.cases import Case
from medseg.data.masks import MaskFolder, labels_in
from medseg.errors import DataError, ImageError
from medseg.io.image import find_images
from medseg.io.label_names import infer_labels, read_label_names
from medseg.io.labels import Labels


def write(path: Path, value: int = 1) -> Path:
    array = np.zeros((6, 6), np.uint8)
    array[2:4, 2:4] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


def test_labels_come_from_the_file_or_from_the_masks(cohort: Path, tmp_path: Path) -> None:
    assert infer_labels(find_images(cohort / "masks")) == {"label_1": 1, "label_2": 2}
    (tmp_path / "labels.json").write_text('{"a": 3}')
    assert read_label_names(tmp_path) == {"a": 3}


def test_a_mask_is_found_by_the_images_path_and_its_file_is_told(tmp_path: Path) -> None:
    image = write(tmp_path / "set/images/site/a.png")
    file = write(tmp_path / "masks/site/a.nii.gz")
    case = Case("site/a", "a", {"photo": image})
    masks = MaskFolder(tmp_path / "set", tmp_path / "masks", labels_in(tmp_path / "masks"))
    assert masks.files(case) == [file]
    assert sitk.GetArrayFromImage(masks(case, sitk.ReadImage(str(image)))).sum() == 4
    other = Case("b", "b", {"photo": write(tmp_path / "set/images/b.png")})
    assert masks.files(other) == []
    with pytest.raises(ImageError, match="has no mask b"):
        masks(other, sitk.ReadImage(str(image)))
    with pytest.raises(DataError, match="no such folder"):
        MaskFolder(tmp_path, tmp_path / "none", Labels({"a": 1}))


def test_labels_that_may_overlap_have_a_file_each(tmp_path: Path) -> None:
    image = write(tmp_path / "images/eye.png")
    files = [write(tmp_path / f"masks/eye_{name}.png", 255) for name in ("dark", "bright")]
    (tmp_path / "masks/labels.json").write_text('{"dark": 1, "bright": 2}')
    labels = labels_in(tmp_path / "masks")
    assert not labels.exclusive
    masks, case = MaskFolder(tmp_path / "images", tmp_path / "masks", labels), Case("eye", "eye", {"photo": image})
    assert masks.files(case) == files
    coded = sitk.GetArrayFromImage(masks(case, sitk.ReadImage(str(image))))
    assert coded[2, 2] == labels.code("dark") | labels.code("bright")
