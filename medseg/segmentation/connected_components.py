"""Connected components (face connectivity) of large binary arrays, labelled slab by slab."""

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
SLAB = 1 << 23  # voxels that are labelled at once, 4 bytes each


def select_components(mask: BoolArray, choose: Choice, slab: int = SLAB) -> BoolArray:
    """Keep the components of a mask ([Z,] Y, X) that `choose` selects.

    `choose` takes the components' sizes in voxels (n,) and whether they touch the array's border (n,), in order of
    their first voxels, and returns which to keep (n,). Labels exist for one slab of about `slab` voxels at a time.
    """
    depth = max(1, slab // int(np.prod(mask.shape[1:])))
    sizes, edges, pairs = [], [], [np.zeros((2, 0), np.int64)]
    previous = np.zeros(mask.shape[1:], np.int64)  # labels of the last plane of the slab before
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
    """Draw the selected components; `selected` holds one array per slab, in label order."""
    result = np.zeros_like(mask)
    for first, slab_selected in zip(range(0, len(mask), depth), selected, strict=True):
        slab = slice(first, first + depth)
        if slab_selected.all():
            result[slab] = mask[slab]
        elif slab_selected.any():
            result[slab] = np.concatenate([[False], slab_selected])[_numbered(mask[slab])]
    return result


def _numbered(slab: BoolArray) -> Numbers:
    """Component label of each voxel, from 1; 0: background."""
    image = sitk.GetImageFromArray(slab.view(np.uint8))
    return np.asarray(sitk.GetArrayFromImage(sitk.ConnectedComponent(image)))


def _at_border(numbers: Numbers, count: int, first: bool, last: bool) -> BoolArray:
    """Which labels 1 … `count` of a slab touch the border; the `first` and the `last` slab have an extra face."""
    touching = np.zeros(count + 1, np.bool_)
    sides = [numbers.take(index, axis) for axis in range(1, numbers.ndim) for index in (0, -1)]
    for side in [*sides, *([numbers[0]] if first else []), *([numbers[-1]] if last else [])]:
        touching[np.unique(side)] = True
    return touching[1:]
