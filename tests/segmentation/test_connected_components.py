import numpy as np
import pytest
import SimpleITK as sitk

from medseg.segmentation.connected_components import select_components


@pytest.mark.parametrize("shape", [(9, 14, 11), (40, 30), (1, 12, 12)])
@pytest.mark.parametrize("slab", [1, 400, 1 << 23])
@pytest.mark.parametrize("density", [0.25, 0.45, 0.6])
def test_slabs_find_what_itk_finds_in_the_whole(shape: tuple[int, ...], slab: int, density: float) -> None:
    array = np.random.default_rng(0).random(shape) < density
    ordered = sitk.GetArrayFromImage(
        sitk.RelabelComponent(sitk.ConnectedComponent(image_of(array)), sortByObjectSize=True)
    )
    assert (
        select_components(array, lambda sizes, _: np.arange(len(sizes)) == np.argmax(sizes), slab) == (ordered == 1)
    ).all()
    expected = (np.bincount(ordered.ravel()) >= 5)[ordered] & array
    assert (select_components(array, lambda sizes, _: sizes >= 5, slab) == expected).all()
    filled = array | select_components(~array, lambda _, borders: ~borders, slab)
    assert (filled == sitk.GetArrayFromImage(sitk.BinaryFillhole(image_of(array)))).all()


def test_nothing_has_no_components() -> None:
    assert not select_components(np.zeros((4, 5, 6), bool), lambda sizes, _: sizes > 0).any()


def image_of(array: np.ndarray) -> sitk.Image:
    return sitk.GetImageFromArray(array.astype(np.uint8))
