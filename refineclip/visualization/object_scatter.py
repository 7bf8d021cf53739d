"""Features of whole objects in the plane, by t-SNE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from refineclip.distill.roi_ops import pool_regions

from .panels import panel_grid
from .pictures import as_map
from .style import INK, LABEL, SMALL, series_style

_ROW, _CELL = 0.2, 1.55  # inches of a row and a column of the legend


def pool_objects(
    maps: Sequence[Tensor],
    boxes: Sequence[Tensor] | None = None,
    masks: Sequence[Tensor] | None = None,
) -> Tensor:
    """One feature per object.

    Args:
        maps: One map (D, h, w) or (1, D, h, w) per image.
        boxes: Per image (R, 4) xyxy in [0, 1] of the image, pooled by RoIAlign to one bin; or
        masks: per image (R, h, w) share in [0, 1] of each token that the object covers.

    Returns:
        (sum of R, D), L2-normalised.

    Raises:
        ValueError: Unless exactly one of boxes and masks is given, for each image.
    """
    regions = masks if boxes is None else boxes
    if regions is None or (boxes is not None and masks is not None):
        raise ValueError('expected either boxes or masks, got both or none')
    if len(regions) != len(maps):
        raise ValueError(f'expected regions of {len(maps)} images, got {len(regions)}')
    pooled = []
    for dense, own in zip(maps, regions, strict=True):
        one = as_map(dense)
        if boxes is not None:
            rows = torch.cat([torch.zeros(len(own), 1), own.float()], dim=1)
            pooled.append(pool_regions(one[None], rows, 1).flatten(1))
        else:
            share = own.float().flatten(1)
            total = share.sum(1, keepdim=True).clamp_min(1e-8)
            pooled.append(share @ one.flatten(1).T / total)
    return F.normalize(torch.cat(pooled), dim=1)


def tsne_points(features: Tensor, seed: int = 0, perplexity: float = 30.0) -> NDArray[np.float32]:
    """Place features in the plane.

    Args:
        features: (R, D); cosine distance is used.
        seed: Seed of the descent; the start is the first two principal components.
        perplexity: Soft number of neighbours; not stated in the paper, scikit-learn's default. It
            is lowered to (R - 1) / 3 for few objects.

    Returns:
        (R, 2) positions.

    Raises:
        ValueError: With fewer than 4 objects.
    """
    # Only here, so that the other figures do not need scikit-learn.
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if len(features) < 4:
        raise ValueError(f'expected 4 or more objects to place, got {len(features)}')
    points = F.normalize(features.float().cpu(), dim=1).numpy()
    near = min(perplexity, (len(points) - 1) / 3)
    # Unit vectors: euclidean neighbours are those of the cosine, and the PCA start is allowed.
    model = TSNE(perplexity=near, init='pca', random_state=seed)
    with threadpool_limits(1):  # so that the sums, and with them the picture, repeat
        return model.fit_transform(points)


def choose_frequent(labels: NDArray[np.int64], limit: int) -> list[int]:
    """The most frequent labels, at most ``limit``, most frequent first."""
    values, counts = np.unique(labels, return_counts=True)
    return [int(values[i]) for i in np.argsort(-counts, kind='stable')[:limit]]


def tsne_figure(
    features: Mapping[str, Tensor],
    labels: Any,
    class_names: Sequence[str],
    max_classes: int = 12,
    seed: int = 0,
    caption: str | None = None,
) -> Figure:
    """Draw t-SNE plots of object features side by side, same objects, same seed.

    Args:
        features: Model -> (R, D) features of the same objects; see :func:`pool_objects`.
        labels: (R,) class of each object.
        class_names: Name of each class.
        max_classes: Draw the objects of the most frequent classes only; the rest is left out before
            anything is placed.
        seed: See :func:`tsne_points`.
        caption: Text under the panels; says what they show if None.

    Returns:
        The figure.

    Raises:
        ValueError: If features and labels do not fit, or fewer than 4 objects remain.
    """
    classes = np.asarray(labels, dtype=np.int64)
    for name, own in features.items():
        if len(own) != len(classes):
            raise ValueError(
                f'{name}: expected one feature per label ({len(classes)}), got {len(own)}'
            )
    frequent = choose_frequent(classes, max_classes)
    keep = np.isin(classes, frequent)
    if caption is None:
        caption = (
            f't-SNE of {int(keep.sum())} objects (of {len(classes)}) of the {len(frequent)} most '
            f'frequent classes, seed {seed}. Neighbourhoods mean something, distances and sizes of '
            'clusters do not.'
        )
    panel = min(3.6, max(2.6, 10.5 / len(features)))
    columns = max(1, int(len(features) * panel / _CELL))
    rows = -(-len(frequent) // columns)
    figure, grid = panel_grid([1.0], list(features), caption, panel=panel, footer=_ROW * rows + 0.1)
    for axes, own in zip(grid[0], features.values(), strict=True):
        points = tsne_points(own[torch.from_numpy(keep)], seed)
        for order, label in enumerate(frequent):
            chosen = points[classes[keep] == label]
            colour, marker = series_style(order)
            axes.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=26,
                c=colour,
                marker=marker,
                linewidths=0.4,
                edgecolors='white',
            )
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color('#c8c8c8')
    _legend(figure, [class_names[label] for label in frequent], columns, grid[0][0])
    return figure


def _legend(figure: Figure, names: Sequence[str], columns: int, panel: Any) -> None:
    """Name the classes right under the panels."""
    handles = []
    for order, name in enumerate(names):
        colour, marker = series_style(order)
        shown = name if len(name) <= 20 else name[:19] + '…'
        handles.append(
            Line2D([], [], color=colour, marker=marker, linestyle='', markersize=6, label=shown)
        )
    base = panel.get_position().y0 - 0.06 / figure.get_size_inches()[1]
    legend = figure.legend(
        handles=handles,
        loc='upper center',
        bbox_to_anchor=(0.5, base),
        ncols=min(columns, len(names)),
        fontsize=SMALL if len(names) > columns else LABEL,
        frameon=False,
        handletextpad=0.3,
        columnspacing=1.0,
        borderpad=0,
        labelspacing=0.35,
    )
    for text in legend.get_texts():
        text.set_color(INK)
