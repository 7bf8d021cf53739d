"""Every rule of an evaluation of regions, and the protocols by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refineclip.datasets.coco_panoptic import PanopticImage
from refineclip.distill.region_preprocessor import RESIZE_MODES, crop_pixels

MASK_POOLINGS = ('area', 'any', 'resized')
CLASS_NAMES = ('raw', 'words')
STUFF_BOXES = ('pixels', 'annotation')


@dataclass(frozen=True)
class RegionRules:
    """Every rule of an evaluation of regions; the defaults are CLIPSelf's.

    The defaults are those of CLIPSelf's published code (arXiv 2310.01403, ``COCOPanopticDataset``
    and ``zero_shot.py``), whose results stand in its tables.

    Attributes:
        protocol: Name of the protocol that the rules are, or were changed from.
        image_size: Side of the canvas in pixels; None follows ``max_tokens``.
        max_tokens: Tokens along a side of the canvas, up to 1024 px: 64 gives 1024 px with a patch
            of 16 and 896 px with 14, CLIPSelf's two sizes. None takes what 1024 px hold.
        image_resize: 'letterbox' or 'squash', how pictures are brought to the canvas.
        dense_mode: Last block of the dense map.
        normalize_tokens: L2-normalise the tokens before they are pooled.
        class_names: 'raw' embeds names as the json spells them ('wall-other-merged'), 'words'
            without the endings that tell of the annotation ('wall').
        templates: Prompts of the class names, see :class:`~refineclip.encoders.text.TextEmbedder`.
        crowds: Crowds count as regions.
        max_segments: Take the first segments of an image only.
        stuff_boxes: 'annotation' takes the json's box for stuff as for things; 'pixels' spans from
            the first to the last pixel of its mask, which are one pixel less wide and high.
        area_px: Least and largest area of the box, in square pixels of the original image.
        min_area: Least area of the box as a share of the image.
        mask_pooling: 'resized' is the mean of the tokens in which the mask, resized to the map by
            plain bicubic interpolation, is above 0: a mask between the sampled pixels has none, and
            is then wrong. 'any' is the mean of all tokens that the mask touches, 'area' weighs each
            by the share of it that the mask covers.
        crop_size: Side of the crops in pixels; None is the encoder's native size.
        crop_resize: As ``image_resize``, for crops (a letterbox is then centred).
        crop_enlarge: Crop the boxes of things, and of stuff, enlarged by these factors.

    Raises:
        ValueError: If a value is out of range.
    """

    protocol: str = 'clipself'
    image_size: int | None = None
    max_tokens: int | None = 64
    image_resize: str = 'letterbox'
    dense_mode: str = 'value'
    normalize_tokens: bool = True
    class_names: str = 'raw'
    templates: str | tuple[str, ...] = 'vild'
    crowds: bool = True
    max_segments: int | None = 100
    stuff_boxes: str = 'pixels'
    area_px: tuple[float, float] = (8**2, 1024**2)
    min_area: float = 0.0
    mask_pooling: str = 'resized'
    crop_size: int | None = None
    crop_resize: str = 'letterbox'
    crop_enlarge: tuple[float, float] = (1.5, 1.0)

    def __post_init__(self) -> None:
        low, high = self.area_px
        if not 0 <= low < high or not 0 <= self.min_area < 1:
            raise ValueError(
                'expected 0 <= smallest < largest area in square pixels and min_area in [0, 1), '
                f'got {self.area_px} and {self.min_area}'
            )
        for name, known in (
            ('mask_pooling', MASK_POOLINGS),
            ('class_names', CLASS_NAMES),
            ('stuff_boxes', STUFF_BOXES),
            ('image_resize', RESIZE_MODES),
            ('crop_resize', RESIZE_MODES),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f'{name}: expected one of {known}, got {getattr(self, name)!r}')
        if len(self.crop_enlarge) != 2 or min(self.crop_enlarge) < 1:
            raise ValueError(
                'crop_enlarge: expected two factors >= 1, of things and of stuff, got '
                f'{self.crop_enlarge}'
            )

    def canvas_side(self, patch_size: int, limit: int = 1024) -> int:
        """Side of the canvas in pixels: ``image_size``, or what ``max_tokens`` makes of a patch.

        Args:
            patch_size: Side of a token in pixels.
            limit: Largest side that is not asked for by ``image_size``.
        """
        if self.image_size is not None:
            return self.image_size
        tokens = limit // patch_size
        return patch_size * (tokens if self.max_tokens is None else min(tokens, self.max_tokens))

    def as_protocol_says(self, patch_size: int, native_size: int) -> RegionRules:
        """Drop sizes that are given and equal what the protocol makes of a tower."""
        named = PROTOCOLS[self.protocol]
        same = self.image_size == named.canvas_side(patch_size)
        return replace(
            self,
            image_size=None if same else self.image_size,
            crop_size=None if self.crop_size == native_size else self.crop_size,
        )

    def boxes(self, image: PanopticImage, ids: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the boxes of all segments of an image.

        Args:
            image: The annotated image.
            ids: (H, W) segment id per pixel.

        Returns:
            (S, 4) xyxy in pixels of the original image; the json's for a segment without a pixel.
        """
        boxes = np.array([s.box for s in image.segments], dtype=np.float64).reshape(-1, 4)
        if self.stuff_boxes == 'pixels':
            for row, segment in enumerate(image.segments):
                mask = ids == segment.id
                if not segment.is_thing and mask.any():
                    xs, ys = (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
                    boxes[row] = xs[0], ys[0], xs[-1], ys[-1]
        return boxes

    def choose(self, image: PanopticImage, boxes: NDArray[np.float64]) -> list[int]:
        """Return the positions of the segments of an image that count.

        Args:
            image: The annotated image.
            boxes: (S, 4) of :meth:`boxes`.
        """
        chosen = []
        for row, segment in enumerate(image.segments[: self.max_segments]):
            x1, y1, x2, y2 = boxes[row]
            area = max(x2 - x1, 0.0) * max(y2 - y1, 0.0)
            large = area >= self.min_area * image.width * image.height
            counts = self.crowds or not segment.is_crowd
            if counts and large and self.area_px[0] <= area <= self.area_px[1]:
                chosen.append(row)
        return chosen

    def cuts(self, image: PanopticImage, boxes: NDArray[np.float64]) -> Tensor:
        """Return the pixels that the crop of each segment shows, (S, 4) int64 xyxy.

        Args:
            image: The annotated image.
            boxes: (S, 4) of :meth:`boxes`.
        """
        things, stuff = self.crop_enlarge
        factors = [things if s.is_thing else stuff for s in image.segments]
        sides = torch.tensor([[image.width, image.height] * 2]).expand(len(boxes), -1)
        factor = torch.tensor(factors, dtype=torch.float64)[:, None]
        return crop_pixels(torch.from_numpy(boxes), sides, factor)

    def describe(self, *others: str) -> str:
        """Name the protocol, and what is not as the protocol says.

        Args:
            others: What else departs from it.

        Returns:
            ``'clipself'``, or ``'clipself, with area 1024 1048576'``.
        """
        named = PROTOCOLS[self.protocol]
        changes = [
            f'{_SHORT.get(field.name, field.name.replace("_", " "))} {_as_words(value)}'
            for field in fields(self)
            if (value := getattr(self, field.name)) != getattr(named, field.name)
        ]
        changes += others
        return self.protocol + (f', with {", ".join(changes)}' if changes else '')


_SHORT = {'area_px': 'area'}

CLIPSELF = RegionRules()
# This project's own, from before it took CLIPSelf's: docs/demo.md and docs/real_pilot.md are by it.
OURS = RegionRules(
    protocol='ours',
    max_tokens=None,
    normalize_tokens=False,
    class_names='words',
    crowds=False,
    max_segments=None,
    stuff_boxes='annotation',
    mask_pooling='area',
    crop_enlarge=(1.0, 1.0),
)
PROTOCOLS = {rules.protocol: rules for rules in (CLIPSELF, OURS)}


def region_rules(protocol: str = 'clipself', **changes: Any) -> RegionRules:
    """Return a protocol's rules with some of them changed.

    Args:
        protocol: 'clipself' or 'ours'.
        changes: Attributes of :class:`RegionRules`; None leaves the protocol's.

    Raises:
        ValueError: If there is no such protocol, or a value is out of range.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f'protocol: expected one of {tuple(PROTOCOLS)}, got {protocol!r}')
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in changes.items()
        if value is not None
    }
    return replace(PROTOCOLS[protocol], **given)


def _as_words(value: Any) -> str:
    if isinstance(value, bool):
        return 'on' if value else 'off'
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ' '.join(_as_words(part) for part in value)
    if isinstance(value, float) and value.is_integer():
        return f'{value:.0f}'
    return str(value)
