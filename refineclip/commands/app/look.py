"""What the tab Look shows: similarity to one token, and principal components, as colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.colors import Normalize
from torch import Tensor

from refineclip.visualization import affinity, cosine_colours, cosine_limits, fit_pca
from refineclip.visualization.pictures import Picture

Maps = Mapping[str, Sequence[Tensor]]
Colours = dict[str, list[Picture]]


def similarities(
    maps: Maps, point: tuple[float, float], source: int, own_scale: bool
) -> tuple[Colours, Normalize | None]:
    """Cosine of every token of every image to one token.

    Args:
        maps: Row -> one map (D, h, w) per image.
        point: x and y in [0, 1].
        source: Index of the image that it lies in.
        own_scale: Stretch each panel to its own range.

    Returns:
        Row -> colours (h, w, 3) per image, and the range of all; None where each has its own.

    Raises:
        ValueError: If the point lies outside.
    """
    cosines = {row: [affinity(one, point, own[source]) for one in own] for row, own in maps.items()}
    flat = [one for own in cosines.values() for one in own]
    limits = None if own_scale else cosine_limits(flat)
    colours = {
        row: [cosine_colours(one, limits or Normalize(one.min(), one.max())) for one in own]
        for row, own in cosines.items()
    }
    return colours, limits


def components(maps: Maps, own_scale: bool) -> Colours:
    """Three principal components of the tokens as colours.

    Args:
        maps: Row -> one map (D, h, w) per image.
        own_scale: Fit each row alone; otherwise one basis and range for all.

    Returns:
        Row -> colours (h, w, 3) per image. Rows of another width than the first have no share in
        its basis and are left out.
    """
    width = next(iter(maps.values()))[0].shape[0]
    alike = {row: own for row, own in maps.items() if own_scale or own[0].shape[0] == width}
    bases = fit_pca(alike, shared=not own_scale)
    return {
        row: [(255 * bases[row].colours(one)).round().astype('uint8') for one in own]
        for row, own in alike.items()
    }
