"""Segmentation by any words: the most similar text at every pixel, before and after refining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from refineclip.encoders.text.pixel_scores import PixelScores
from refineclip.encoders.text.queries import Queries
from refineclip.encoders.text.text_head import TextHead

from .panels import panel_grid
from .pictures import Picture, as_map, to_picture
from .style import INK, LABEL, area_colours

LOGIT_SCALE = 40.0  # SCLIP's default (arXiv 2312.01597), as in TextSegmentor
_CHUNK = 32  # texts at pixel size at the same time
_OPACITY = 0.7
_ROW, _CHARACTER = 0.21, 0.085  # inches


def text_cosines(dense: Tensor, text: Tensor, head: TextHead | None = None) -> Tensor:
    """Cosines (Q, h, w) in [-1, 1] of every token with every text.

    Args:
        dense: Map (D, h, w) or (1, D, h, w).
        text: (Q, D) text embeddings, any norm.
        head: Maps features into the text space, for towers without text.

    Raises:
        ValueError: If map and texts have different widths.
    """
    one = as_map(dense)
    tokens = one.flatten(1).T
    width = tokens.shape[1] if head is None else head.weight.shape[0]
    if text.ndim != 2 or text.shape[1] != width:
        raise ValueError(
            f'expected text embeddings of {width} columns, as the features have, got shape '
            f'{tuple(text.shape)}; take the text tower of this model'
        )
    if head is None:
        cosine = F.normalize(tokens, dim=1) @ F.normalize(text.float().cpu(), dim=1).T
    else:
        cosine = head.classify(tokens, text)
    return cosine.T.reshape(len(text), *one.shape[1:])


def name_pixels(
    dense: Tensor,
    text: Tensor,
    size: tuple[int, ...],
    head: TextHead | None = None,
    owner: Sequence[int] | None = None,
    prob_thd: float = 0.0,
) -> NDArray[np.int64]:
    """Give every pixel the text that its token resembles most.

    Cosines are interpolated to the image bilinearly, then the largest wins.

    Args:
        dense: Map (D, h, w) or (1, D, h, w).
        text: (Q, D) text embeddings, any norm.
        size: Height and width in pixels.
        head: Maps features into the text space, for towers without text.
        owner: Class of each text; None makes each text a class.
        prob_thd: Pixels whose best text has a lower probability, of the softmax of 40 times the
            cosines over all texts, get no name.

    Returns:
        (H, W) classes; -1 is no name.

    Raises:
        ValueError: If map and texts have different widths.
    """
    cosines = text_cosines(dense, text, head)
    classes = range(len(text)) if owner is None else owner
    queries = Queries(('',) * len(text), tuple(classes), max(classes) + 1, background=-1)
    scores = PixelScores(queries, size)
    for start in range(0, len(text), _CHUNK):
        chunk = cosines[None, start : start + _CHUNK]
        pixels = F.interpolate(chunk, size, mode='bilinear', align_corners=False)[0]
        scores.update(LOGIT_SCALE * pixels, start)
    return scores.labels(prob_thd).numpy()


def segmentation_figure(
    images: Sequence[Any],
    labels: Mapping[str, Sequence[NDArray[np.integer]]],
    names: Sequence[str],
    caption: str | None = None,
    colours: Mapping[int, str] | None = None,
) -> Figure:
    """Draw segmentations over the images: one row per image, then one column per model.

    Args:
        images: Whatever :func:`~refineclip.visualization.pictures.to_picture` takes.
        labels: Model (or ``'ground truth'``) -> one (H, W) index map per image; negative is none.
        names: Name of each index.
        caption: Text under the panels; says what they show if None.
        colours: Index -> colour; None colours what occurs, so that as few as possible look alike.

    Returns:
        The figure; its legend names what occurs.

    Raises:
        ValueError: If labels do not fit images or names.
    """
    pictures = [to_picture(image) for image in images]
    present = _check(labels, pictures, names)
    if colours is None:
        colours = dict(zip(present, area_colours(len(present)), strict=True))
    if caption is None:
        caption = naming_caption(len(names))
    aspects = [picture.shape[0] / picture.shape[1] for picture in pictures]
    columns = ['image', *labels]
    probe, _ = panel_grid(aspects, columns)
    across = float(probe.get_size_inches()[0]) - 0.3
    shown = [_short(names[index]) for index in present]
    cell = 0.55 + _CHARACTER * max(len(name) for name in shown)
    per_row = max(1, min(len(shown), int(across / cell)))
    footer = _ROW * -(-len(shown) // per_row) + 0.12
    figure, grid = panel_grid(aspects, columns, caption, footer=footer)
    for row, (line, picture) in enumerate(zip(grid, pictures, strict=True)):
        line[0].imshow(picture, aspect='auto')
        for axes, own in zip(line[1:], labels.values(), strict=True):
            axes.imshow(overlay(picture, own[row], colours), aspect='auto')
    patches = [Patch(color=colours[i], label=n) for i, n in zip(present, shown, strict=True)]
    _legend(figure, grid[-1][0], patches, per_row)
    return figure


def overlay(
    picture: Picture, labels: NDArray[np.integer], colours: Mapping[int, str]
) -> NDArray[np.float64]:
    """Blend a grey copy of a picture (H, W, 3) with the colour of each label (H, W); in [0, 1].

    The grey is lightened to [0.4, 1], so that a colour looks alike on dark and light ground.
    """
    grey = picture.astype(np.float64).mean(axis=2, keepdims=True).repeat(3, axis=2) / 255
    grey = 0.4 + 0.6 * grey
    blended = grey.copy()
    for index, colour in colours.items():
        where = labels == index
        blended[where] = (1 - _OPACITY) * grey[where] + _OPACITY * np.array(to_rgb(colour))
    return blended


def naming_caption(num_names: int, prob_thd: float = 0.0) -> str:
    """Say what a segmentation by :func:`name_pixels` shows."""
    below = f' Grey: a probability below {prob_thd:g}.' if prob_thd > 0 else ''
    return (
        f'Each pixel shows the most similar of {num_names} texts. Tokens against text embeddings, '
        f'cosines interpolated to the image; nothing is trained on these names.{below}'
    )


def _check(
    labels: Mapping[str, Sequence[NDArray[np.integer]]],
    pictures: Sequence[Picture],
    names: Sequence[str],
) -> list[int]:
    """Hold label maps against images and names; return the indices that occur."""
    if not labels or not pictures:
        raise ValueError('expected one or more images and models, got none')
    found: set[int] = set()
    for name, own in labels.items():
        if [np.shape(one) for one in own] != [picture.shape[:2] for picture in pictures]:
            raise ValueError(f'{name}: expected one label map of its size per image, got others')
        found |= {int(index) for one in own for index in np.unique(one) if index >= 0}
    if found and max(found) >= len(names):
        raise ValueError(f'expected labels in [0, {len(names)}), got {max(found)}')
    return sorted(found)


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + '…'


def _legend(figure: Figure, panel: Axes, patches: Sequence[Patch], columns: int) -> None:
    base = panel.get_position().y0 - 0.06 / figure.get_size_inches()[1]
    figure.legend(
        handles=list(patches),
        loc='upper center',
        bbox_to_anchor=(0.5, base),
        ncols=columns,
        fontsize=LABEL,
        labelcolor=INK,
        frameon=False,
        borderpad=0,
        labelspacing=0.35,
        handlelength=1.2,
        handletextpad=0.5,
    )
