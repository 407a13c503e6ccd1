"""Connected components (faces touching) of large binary arrays, found slab by slab."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medseg.typing import BoolArray, IntArray

Numbers = npt.NDArray[np.uint32]
Choice = Callable[[IntArray, BoolArray], BoolArray]
SLAB = 1 << 23  # voxels whose components are numbered at once, 4 bytes each


def select_components(mask: BoolArray, choose: Choice, slab: int = SLAB) -> BoolArray:
    """The components of a part ([Z,] Y, X) that `choose` picks.

    `choose` takes each component's voxels (n,) and whether it touches the array's border (n,), in the order of their
    first voxels, and says which stay (n,). Numbers exist for one slab of about `slab` voxels at a time.
    """
    depth = max(1, slab // int(np.prod(mask.shape[1:])))
    sizes, edges, pairs = [], [], [np.zeros((2, 0), np.int64)]
    previous = np.zeros(mask.shape[1:], np.int64)  # the numbers of the plane before a slab
    total = 0
    for first in range(0, len(mask), depth):
        numbers = _numbered(mask[first : first + depth])
        counts = np.bincount(numbers.ravel())[1:]
        both = (previous > 0) & (numbers[0] > 0)
        pairs.append(np.unique(np.stack([previous[both] - 1, numbers[0][both] - 1 + total]), axis=1))
        sizes.append(counts)
        edges.append(_at_border(numbers, len(counts), first == 0, first + depth >= len(mask)))
        previous = np.where(numbers[-1] > 0, numbers[-1].astype(np.int64) + total, 0)
        total += len(counts)
    if total == 0:
        return np.zeros_like(mask)
    first_component, second_component = np.concatenate(pairs, axis=1)
    graph = coo_array(
        (np.ones(len(first_component), np.int8), (first_component, second_component)), shape=(total, total)
    )
    count, member = connected_components(graph, directed=False)
    borders = np.bincount(member, np.concatenate(edges), count) > 0
    selected = choose(np.bincount(member, np.concatenate(sizes), count).astype(np.int64), borders)[member]
    return _drawn(mask, depth, np.split(selected, np.cumsum([len(counts) for counts in sizes])[:-1]))


def _drawn(mask: BoolArray, depth: int, selected: list[BoolArray]) -> BoolArray:
    """Those components that stay, of each slab in the order in which they were numbered."""
    result = np.zeros_like(mask)
    for first, slab_selected in zip(range(0, len(mask), depth), selected, strict=True):
        slab = slice(first, first + depth)
        if slab_selected.all():
            result[slab] = mask[slab]
        elif slab_selected.any():
            result[slab] = np.concatenate([[False], slab_selected])[_numbered(mask[slab])]
    return result


def _numbered(slab: BoolArray) -> Numbers:
    """The component of each voxel, from 1 on; 0: none."""
    image = sitk.GetImageFromArray(slab.view(np.uint8))
    return np.asarray(sitk.GetArrayFromImage(sitk.ConnectedComponent(image)))


def _at_border(numbers: Numbers, count: int, first: bool, last: bool) -> BoolArray:
    """Which of the numbers 1 … `count` of a slab touch the border; the `first` and the `last` slab have one more."""
    touching = np.zeros(count + 1, np.bool_)
    sides = [numbers.take(index, axis) for axis in range(1, numbers.ndim) for index in (0, -1)]
    for side in [*sides, *([numbers[0]] if first else []), *([numbers[-1]] if last else [])]:
        touching[np.unique(side)] = True
    return touching[1:]
