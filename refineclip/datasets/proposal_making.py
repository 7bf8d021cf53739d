"""Class-agnostic boxes of an image from superpixels, without any trained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.ops import nms

Floats = NDArray[np.float64]


@dataclass
class BoxFilter:
    """Which boxes of an image to keep.

    Attributes:
        min_area: Least area in square pixels of the original image; 8^2 is what
            :class:`ProposalRegions` would drop anyway.
        max_area_fraction: Largest area as a share of the image: larger boxes show the image itself.
        nms_iou: Of two boxes with a higher IoU the one with the lower score goes.
        max_per_image: Most boxes, the highest scores first.
    """

    min_area: float = 8**2
    max_area_fraction: float = 0.95
    nms_iou: float = 0.8
    max_per_image: int = 200

    def __call__(self, rows: NDArray[Any], width: int, height: int) -> Floats:
        """Filter rows (P, 5) of [x1, y1, x2, y2, score] in pixels; returns (P', 5), best first."""
        rows = np.asarray(rows, np.float64).reshape(-1, 5)
        boxes = rows[:, :4].clip(0, [width, height, width, height])
        area = (boxes[:, 2] - boxes[:, 0]).clip(0) * (boxes[:, 3] - boxes[:, 1]).clip(0)
        largest = self.max_area_fraction * width * height
        fits = (area >= self.min_area) & (area <= largest) & np.isfinite(rows).all(axis=1)
        boxes, scores = boxes[fits], rows[fits, 4]
        kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), self.nms_iou).numpy()
        return np.column_stack([boxes, scores])[kept[: self.max_per_image]]


def superpixel_proposals(
    image: Image.Image,
    scales: tuple[float, ...] = (50, 100, 200, 400),
    max_side: int = 320,
) -> Floats:
    """Propose boxes by grouping superpixels, in the manner of selective search.

    At each scale, Felzenszwalb's segments are merged with their most similar neighbour (mean Lab
    colour, Ward linkage) until one is left; every node of that tree is a proposal. Its score is how
    long it lives (the colour distance at which it is merged away, minus the one at which it came to
    be) times the side of its box: lifetime alone prefers specks. This is our own choice; no recipe
    is published for the boxes of CLIPSelf.

    OpenCV's selective search is not used: it is in ``opencv-contrib-python`` only, which overwrites
    the ``cv2`` that the mm stack installs.

    Args:
        image: RGB image.
        scales: Felzenszwalb's ``scale``; larger gives larger segments.
        max_side: The longer side in pixels that larger images are reduced to before segmenting.

    Returns:
        (P, 5) rows of [x1, y1, x2, y2, score] in pixels of ``image``; unfiltered, with repeats.
    """
    # scikit-image and scikit-learn are extras that only this function needs.
    from skimage.color import rgb2lab
    from skimage.segmentation import felzenszwalb

    small = image.copy()
    small.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
    pixels = np.asarray(small.convert('RGB'))
    lab = rgb2lab(pixels)
    levels = [
        _merge_tree(felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=50), lab)
        for scale in scales
    ]
    factor = np.array([image.width / small.width, image.height / small.height] * 2 + [1.0])
    return np.concatenate(levels) * factor


def _merge_tree(labels: NDArray[np.int64], lab: Floats) -> Floats:
    """Merge segments (H, W) to one by colour; returns (2n - 2, 5) boxes and scores."""
    from scipy.sparse import coo_matrix
    from skimage.measure import regionprops_table
    from sklearn.cluster import AgglomerativeClustering

    table = regionprops_table(labels + 1, lab, properties=('bbox', 'intensity_mean'))
    y1, x1, y2, x2 = (table[f'bbox-{i}'] for i in range(4))
    boxes = list(np.stack([x1, y1, x2, y2], axis=1).astype(np.float64))
    count = len(boxes)
    if count == 1:
        return np.zeros((0, 5))
    pairs = np.concatenate(
        [
            np.stack([labels[:, 1:].ravel(), labels[:, :-1].ravel()], axis=1),
            np.stack([labels[1:].ravel(), labels[:-1].ravel()], axis=1),
        ]
    )
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    neighbours = coo_matrix((np.ones(len(pairs)), pairs.T), (count, count))
    tree = AgglomerativeClustering(
        n_clusters=None,
        distance_threshold=0,
        linkage='ward',
        connectivity=neighbours + neighbours.T,
    ).fit(np.stack([table[f'intensity_mean-{i}'] for i in range(3)], axis=1))
    birth = np.concatenate([np.zeros(count), tree.distances_])
    death = np.zeros(2 * count - 1)
    for node, children in enumerate(tree.children_, start=count):
        first, second = (boxes[child] for child in children)
        boxes.append(np.concatenate([np.minimum(first, second)[:2], np.maximum(first, second)[2:]]))
        death[children] = birth[node]
    # Merging neighbours only, a later merge can be a closer one: lifetimes below 0 count as 0.
    rows = np.stack(boxes)
    side = np.sqrt((rows[:, 2:] - rows[:, :2]).prod(axis=1) / labels.size)
    return np.column_stack([rows, (death - birth).clip(0) * side])[:-1]
