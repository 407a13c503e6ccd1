import numpy as np
import pytest
import SimpleITK as sitk

from medseg.preprocess.intensity import Percentiles, Window


def test_a_window_maps_hounsfield_units_to_0_1() -> None:
    image = sitk.GetImageFromArray(np.array([[-2000, -1000, -300, 400, 3000]], np.int16))
    assert sitk.GetArrayFromImage(Window(-1000, 400)(image)).ravel() == pytest.approx([0, 0, 0.5, 1, 1])


def test_percentiles_ignore_outliers_and_survive_constants() -> None:
    values = np.append(np.linspace(10, 20, 999), 1e6).astype(np.float32)
    result = sitk.GetArrayFromImage(Percentiles(0.5, 99.5)(sitk.GetImageFromArray(values[None])))
    assert (result.min(), result.max()) == (0, 1)
    assert np.median(result) == pytest.approx(0.5, abs=0.01)
    assert not sitk.GetArrayFromImage(Percentiles()(sitk.GetImageFromArray(np.full((3, 3), 5.0)))).any()


@pytest.mark.parametrize("make", [lambda: Window(1, 1), lambda: Percentiles(60, 40), lambda: Percentiles(0, 101)])
def test_an_empty_range_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"low must be below high|need 0 <= low"):
        make()  # type: ignore[operator]
