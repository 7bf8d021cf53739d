"""From uint8 images and boxes to normalised images, crops and canvas boxes, on the device.

The loader ships every image once; resizing, cutting and normalising happen here, in one
antialiased resize per picture size. Values differ from Pillow's bicubic by its rounding to 8 bits.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from torch import Tensor

from refineclip.distill.region_batch import RegionBatch
from refineclip.encoders.towers.dense_vit import DenseViT

RESIZE_MODES = ('letterbox', 'squash')

Size = tuple[int, int]
Rect = tuple[int, int, int, int]


@MODELS.register_module()
class RegionPreprocessor(BaseDataPreprocessor):
    """Make a :class:`RegionBatch` from the lists of :func:`collate_regions`.

    ``letterbox`` scales a picture until it touches the canvas and pads with zeros *before*
    normalisation: right and bottom for images, on both sides (centred) for crops, as CLIPSelf's
    published code. ``squash`` scales both sides to the canvas and pads nothing.

    Args:
        mean: Mean per channel, scale 0..255.
        std: Standard deviation per channel, scale 0..255.
        image_size: Canvas of the images, an integer or (height, width) in pixels.
        crop_size: Canvas of the crops in the same form; the teacher's native size.
        image_resize: 'letterbox' or 'squash'.
        crop_resize: 'letterbox' or 'squash'.
        crop_enlarge: Crop the box enlarged by this factor about its centre and clipped to the
            image. 1.5 with proposals in CLIPSelf's published code, 1 with grid cells.
        pad_size_divisor: Pad a batch no further than its largest picture, rounded up to a multiple
            of this (the patch size); ``image_size`` is then the largest canvas. With batches of
            similar shapes (:class:`SimilarShapeBatchSampler`) nearly no padding is encoded. It
            changes numbers: padding no longer takes part in attention. None pads to ``image_size``.
        non_blocking: Copy to the device without blocking.

    Raises:
        ValueError: A size, mode or factor is out of range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        image_size: int | Sequence[int],
        crop_size: int | Sequence[int],
        image_resize: str = 'letterbox',
        crop_resize: str = 'letterbox',
        crop_enlarge: float = 1.0,
        pad_size_divisor: int | None = None,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        for name, values in (('mean', mean), ('std', std)):
            if not isinstance(values, Sequence) or len(values) != 3:
                raise ValueError(f'{name}: expected three numbers, got {values!r}.')
        for name, mode in (('image_resize', image_resize), ('crop_resize', crop_resize)):
            if mode not in RESIZE_MODES:
                raise ValueError(f'{name}: expected one of {RESIZE_MODES}, got {mode!r}.')
        if crop_enlarge < 1:
            raise ValueError(f'crop_enlarge: expected a factor >= 1, got {crop_enlarge}.')
        if pad_size_divisor is not None and pad_size_divisor < 1:
            raise ValueError(f'pad_size_divisor: expected pixels >= 1, got {pad_size_divisor}.')
        if max(std) < 1:
            raise ValueError(f'std: expected values in the scale 0..255, got {tuple(std)}.')
        self.image_size = _as_size('image_size', image_size)
        self.crop_size = _as_size('crop_size', crop_size)
        self.image_resize = image_resize
        self.crop_resize = crop_resize
        self.crop_enlarge = crop_enlarge
        self.pad_size_divisor = pad_size_divisor
        self.normalization = {'mean': tuple(mean), 'std': tuple(std)}
        self.register_buffer('mean', torch.tensor(mean).float().view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).float().view(3, 1, 1), persistent=False)

    @property
    def description(self) -> dict[str, Any]:
        """Everything that decides pixel values and boxes, as JSON-like data (for cache keys)."""
        return {
            'mean': self.mean.flatten().tolist(),
            'std': self.std.flatten().tolist(),
            'image_size': self.image_size,
            'crop_size': self.crop_size,
            'image_resize': self.image_resize,
            'crop_resize': self.crop_resize,
            'crop_enlarge': self.crop_enlarge,
            'pad_size_divisor': self.pad_size_divisor,
        }

    @torch.no_grad()
    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, RegionBatch]:
        """Preprocess one batch; training or not makes no difference.

        Args:
            data: ``inputs`` list of B uint8 (3, H, W); optionally ``boxes`` list of B float (R, 4)
                xyxy in [0, 1] of the image, ``cuts`` list of B int64 (R, 4) xyxy, the whole pixels
                to crop in place of the enlarged boxes, ``labels`` list of B int64 (R,),
                ``img_paths``, ``img_ids`` and ``epochs``. B may be 0.
            training: Ignored.

        Returns:
            Dict with ``inputs``, the :class:`RegionBatch`.
        """
        images: list[Tensor] = list(self.cast_data(list(data['inputs'])))
        count = len(images)
        boxes: list[Tensor] = list(data.get('boxes') or [torch.zeros(0, 4)] * count)
        owner = torch.arange(count).repeat_interleave(torch.tensor([len(b) for b in boxes]).long())
        regions = torch.cat([*boxes, torch.zeros(0, 4)]).float()
        sides = torch.tensor([(i.shape[-1], i.shape[-2]) * 2 for i in images]).view(-1, 4)[owner]
        cuts = (
            crop_pixels(regions.double() * sides, sides, self.crop_enlarge)
            if data.get('cuts') is None
            else torch.cat(data['cuts'])
        )

        image_rects = [
            _fit(i.shape[-2:], self.image_size, self.image_resize, False) for i in images
        ]
        crop_rects = [
            _fit((y2 - y1, x2 - x1), self.crop_size, self.crop_resize, True)
            for x1, y1, x2, y2 in cuts.tolist()
        ]
        canvas = self._canvas(image_rects)
        canvas_boxes = _place(regions, image_rects, owner, canvas)
        inside = _relative(regions.double() * sides, cuts.double())
        whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1)
        pictures = _place(whole, image_rects, torch.arange(count), canvas)
        crop_boxes = _place(inside, crop_rects, torch.arange(len(cuts)), self.crop_size)
        owners, corners = owner.tolist(), cuts.tolist()

        def cut_crops(rows: list[int]) -> Tensor:
            pieces = []
            for row in rows:
                x1, y1, x2, y2 = corners[row]
                pieces.append(images[owners[row]][:, y1:y2, x1:x2])
            return self._paste(pieces, [crop_rects[row] for row in rows], self.crop_size)

        def resize_whole(rows: list[int]) -> Tensor:
            pieces = [images[row] for row in rows]
            rects = [_fit(p.shape[-2:], self.crop_size, self.crop_resize, True) for p in pieces]
            return self._paste(pieces, rects, self.crop_size)

        batch = RegionBatch(
            images=self._paste(images, image_rects, canvas),
            boxes=torch.cat([owner[:, None].float(), canvas_boxes], dim=1).to(self.device),
            regions=regions.to(self.device),
            cut_crops=cut_crops,
            crop_boxes=crop_boxes.to(self.device),
            img_paths=list(data.get('img_paths') or [''] * count),
            img_ids=torch.tensor(data.get('img_ids') or range(count)).long().to(self.device),
            epochs=torch.tensor(data.get('epochs') or [0] * count).long().to(self.device),
            labels=torch.cat(data['labels']).to(self.device) if data.get('labels') else None,
            pictures=pictures.to(self.device),
            resize_whole=resize_whole,
        )
        return {'inputs': batch}

    def _canvas(self, rects: list[Rect]) -> Size:
        """Canvas (H, W) of a batch whose pictures take these xyxy pixels."""
        if self.pad_size_divisor is None or not rects:
            return self.image_size
        divisor = self.pad_size_divisor
        right, bottom = (max(rect[side] for rect in rects) for side in (2, 3))
        return math.ceil(bottom / divisor) * divisor, math.ceil(right / divisor) * divisor

    @torch.no_grad()
    def _paste(self, pictures: list[Tensor], rects: list[Rect], size: Size) -> Tensor:
        """Resize K uint8 pictures (3, h, w) onto their xyxy pixel ``rects`` of zero canvases.

        Pictures of equal size are resized together. Returns (K, 3, H, W), normalised.
        """
        canvas = torch.zeros(len(pictures), 3, *size, device=self.device)
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, picture in enumerate(pictures):
            groups[tuple(picture.shape)].append(index)
        for members in groups.values():
            left, top, right, bottom = rects[members[0]]
            stack = torch.stack([pictures[index] for index in members]).float()
            resized = F.interpolate(
                stack, (bottom - top, right - left), mode='bicubic', antialias=True
            )
            # Bicubic overshoots at edges; 8-bit libraries clip as well.
            canvas[members, :, top:bottom, left:right] = resized.clamp_(0, 255)
        return canvas.sub_(self.mean).div_(self.std)


def check_preprocessing(preprocessor: RegionPreprocessor, visual: DenseViT) -> None:
    """Hold sizes and normalisation against the encoder, before training starts.

    A normalisation other than the encoder's own is only warned about: some recipes mean it.

    Raises:
        ValueError: A size is no multiple of the encoder's patch.
    """
    divisor = preprocessor.pad_size_divisor
    sizes = dict(image_size=preprocessor.image_size, crop_size=preprocessor.crop_size)
    if divisor is not None:
        sizes['pad_size_divisor'] = (divisor, divisor)
    for name, size in sizes.items():
        if any(side % visual.patch_size for side in size):
            raise ValueError(
                f'data_preprocessor.{name}: expected multiples of the patch size '
                f'{visual.patch_size}, got {size}'
            )
    for name, own in (('mean', visual.image_mean), ('std', visual.image_std)):
        given, expected = preprocessor.normalization[name], [255 * value for value in own]
        if any(abs(a - b) > 1 for a, b in zip(given, expected, strict=True)):
            print_log(
                f'data_preprocessor.{name} is {given}, but the encoder was trained with '
                f'{[round(value, 3) for value in expected]}',
                logger='current',
                level=logging.WARNING,
            )


def _as_size(name: str, size: int | Sequence[int]) -> Size:
    pair: tuple[int, ...] = (size, size) if isinstance(size, int) else ()
    if isinstance(size, Sequence):
        pair = tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f'{name}: expected pixels as an integer or (height, width), got {size}.')
    return int(pair[0]), int(pair[1])


def _fit(shape: Sequence[int], size: Size, mode: str, centred: bool) -> Rect:
    """Return the xyxy pixels that a picture (h, w) takes on a canvas of ``size`` (H, W)."""
    height, width = size
    if mode == 'letterbox':
        scale = min(height / shape[0], width / shape[1])
        height, width = (max(round(side * scale), 1) for side in shape)
    top, left = ((size[0] - height) // 2, (size[1] - width) // 2) if centred else (0, 0)
    return left, top, left + width, top + height


def crop_pixels(boxes: Tensor, sides: Tensor, enlarge: float | Tensor) -> Tensor:
    """Enlarge pixel boxes about their centres, clip them to their images, round.

    Args:
        boxes: (R, 4) xyxy in pixels.
        sides: (R, 4) width, height, width, height of each box's image.
        enlarge: Factor of all boxes, or (R, 1) of each.

    Returns:
        (R, 4) int64, never empty: the whole pixels that each crop shows.
    """
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * enlarge
    low = (centre - half).round().long().clamp(min=0).minimum(sides[:, :2] - 1)
    high = (centre + half).round().long().maximum(low + 1).minimum(sides[:, 2:])
    return torch.cat([low, high], dim=1)


def _relative(boxes: Tensor, frames: Tensor) -> Tensor:
    """Express (R, 4) xyxy boxes in [0, 1] of (R, 4) xyxy frames, clipped to them."""
    origin, extent = frames[:, :2], frames[:, 2:] - frames[:, :2]
    return ((boxes - origin.repeat(1, 2)) / extent.repeat(1, 2)).clamp(0, 1)


def _place(boxes: Tensor, rects: list[Rect], owner: Tensor, size: Size) -> Tensor:
    """Map (R, 4) xyxy in [0, 1] of pictures to [0, 1] of their canvases (H, W).

    ``rects`` are the xyxy pixels of the pictures on their canvases, ``owner`` (R,) the picture of
    each box.
    """
    place = torch.tensor(rects, dtype=torch.float64).view(-1, 4)[owner]
    origin, extent = place[:, :2].repeat(1, 2), (place[:, 2:] - place[:, :2]).repeat(1, 2)
    canvas = torch.tensor([size[1], size[0], size[1], size[0]])
    return ((origin + boxes * extent) / canvas).float()
