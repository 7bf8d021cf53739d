"""F-ViT as two ONNX graphs with suppression between and after them, and text as an input."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from refineclip.detection.inferencer import OVDetInferencer
from refineclip.detection.score_fusion import cosine_logits, fuse_columns, pool_vlm_map

from .compare import PICTURE, RANDOM, Comparison, sample_pixels
from .onnx_encoder import Size, check_sizes
from .onnx_graph import Graph, Inputs, compare_graph, time_ratio, write_graph

NUM_SAMPLE_BOXES, NUM_SAMPLE_CLASSES = 12, 5


def load_detector(config: Config, weights: str) -> Any:
    """Build the F-ViT of a config with what its training saved."""
    return OVDetInferencer(config, weights, device='cpu').model.requires_grad_(False).eval()


class Normalize(nn.Module):
    """RGB in [0, 1] to what a data preprocessor of mmdet or mmseg would hand on.

    Args:
        preprocessor: With mean and standard deviation in [0, 255], channels in its own order.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessor: Any) -> None:
        super().__init__()
        self.register_buffer('mean', preprocessor.mean.detach().clone() / 255, persistent=False)
        self.register_buffer('std', preprocessor.std.detach().clone() / 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (B, 3, H, W)."""
        return (images - self.mean) / self.std


class ProposalGraph(nn.Module):
    """An image to proposals before their suppression, and the maps that boxes are judged on.

    Args:
        detector: The F-ViT.
        size: (height, width) in pixels.
    """

    def __init__(self, detector: Any, size: Size) -> None:
        super().__init__()
        self.detector, self.size = detector, size
        self.normalize = Normalize(detector.data_preprocessor)
        with torch.no_grad():
            levels = detector.neck(detector.backbone(torch.zeros(1, 3, *size)))
        generator = detector.rpn_head.prior_generator
        self.anchors = generator.grid_priors([level.shape[2:] for level in levels], device='cpu')

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map an image (1, 3, H, W) to boxes (N, 4), scores and levels (N,), and maps."""
        detector = self.detector
        taps = detector.backbone(self.normalize(images))
        levels = detector.neck(taps)
        objectness, deltas = detector.rpn_head(levels)
        boxes, scores, indices = [], [], []
        for index, anchors in enumerate(self.anchors):
            score = objectness[index][0].permute(1, 2, 0).flatten().sigmoid()
            delta = deltas[index][0].permute(1, 2, 0).reshape(-1, 4)
            coder = detector.rpn_head.bbox_coder
            boxes.append(coder.decode(anchors, delta, max_shape=self.size))
            scores.append(score)
            indices.append(torch.full_like(score, index, dtype=torch.int64))
        used = levels[: len(detector.roi_head.bbox_roi_extractor.featmap_strides)]
        clip_map = detector.backbone.project_map(taps[-1])
        return torch.cat(boxes), torch.cat(scores), torch.cat(indices), *used, clip_map


class _Projected(nn.Module):
    """A text classifier up to its product with the text."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.projection, self.relu = classifier.projection, classifier.relu

    def forward(self, features: Tensor) -> Tensor:
        projected = self.projection(features)
        return F.relu(projected) if self.relu else projected


class BoxGraph(nn.Module):
    """Proposals and text to fused scores and refined boxes, before their suppression.

    Args:
        detector: The F-ViT.
        size: (height, width) in pixels.
    """

    def __init__(self, detector: Any, size: Size) -> None:
        super().__init__()
        self.roi_head, self.size = detector.roi_head, size
        classifier = detector.roi_head.bbox_head.fc_cls
        self.learns_background = classifier.learn_background
        self.head = copy.deepcopy(detector.roi_head.bbox_head)
        self.head.fc_cls = _Projected(classifier)
        fusion = detector.roi_head.score_fusion
        self.fusion = fusion
        temperature = fusion.det_temperature
        self.temperature = float(classifier.temperature) if temperature is None else temperature
        if self.learns_background:
            self.background = F.normalize(classifier.background.detach().float(), dim=1)

    def forward(
        self, boxes: Tensor, text: Tensor, is_base: Tensor, maps: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Map proposals (R, 4) to scores (R, C + 1), background last, and boxes (R, 4).

        Args:
            boxes: xyxy in pixels of the input.
            text: (C + 1, D), L2-normalised, "background" last; (C, D) where it is learned.
            is_base: Whether training taught each of these rows; the background's is not read.
            maps: Levels of the neck, and after them the CLIP map.
        """
        *levels, clip_map = maps
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
        if self.learns_background:
            text = torch.cat([text, self.background])
            known = torch.cat([is_base, is_base.new_ones(1)])
        else:
            known = is_base | (torch.arange(text.shape[0]) == text.shape[0] - 1)
        projected, deltas = self.head(self._pool(levels, rois))
        logits = cosine_logits(projected, text, self.temperature)
        stride = self.size[1] / clip_map.shape[-1]
        unit = F.normalize(clip_map, dim=1)
        embeddings = roi_align(unit, rois, 1, 1 / stride, sampling_ratio=0, aligned=True).flatten(1)
        vlm = cosine_logits(embeddings, text, self.fusion.vlm_temperature)
        scores = fuse_columns(
            logits.softmax(1), vlm.softmax(1), known, self.fusion.alpha, self.fusion.beta
        )
        return scores, self.head.bbox_coder.decode(boxes, deltas, max_shape=self.size)

    def _pool(self, levels: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Pool each box from its level: from all, of which its own is taken, so no size varies."""
        extractor = self.roi_head.bbox_roi_extractor
        owner = extractor.map_roi_levels(rois, len(levels))
        pooled = 0
        for index, (level, layer) in enumerate(zip(levels, extractor.roi_layers, strict=True)):
            found = roi_align(
                level,
                rois,
                layer.output_size,
                layer.spatial_scale,
                sampling_ratio=layer.sampling_ratio,
                aligned=layer.aligned,
            )
            pooled = pooled + found * (owner == index)[:, None, None, None]
        assert isinstance(pooled, Tensor)
        return pooled


class _BoxReference(nn.Module):
    """What the detector itself says of boxes, with mmcv's RoIAlign."""

    def __init__(self, detector: Any, size: Size) -> None:
        super().__init__()
        self.detector, self.size = detector, size

    def forward(
        self, boxes: Tensor, text: Tensor, is_base: Tensor, maps: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        *levels, clip_map = maps
        roi_head = copy.deepcopy(self.detector.roi_head)
        classifier = roi_head.bbox_head.fc_cls
        classifier.bank.embeddings = text
        classifier.is_base = is_base if classifier.learn_background else is_base[:-1]
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
        found = roi_head._bbox_forward(levels, rois)
        embeddings = pool_vlm_map(clip_map, rois, self.size[1] / clip_map.shape[-1])
        scores = roi_head.scores(found['cls_score'], embeddings)
        coder = roi_head.bbox_head.bbox_coder
        return scores, coder.decode(boxes, found['bbox_pred'], max_shape=self.size)


def export_detector(
    detector: Any, folder: Path, picture: Image.Image, sizes: Sequence[Size]
) -> tuple[list[Comparison], dict[str, float]]:
    """Write ``proposals_HxW.onnx`` and ``boxes_HxW.onnx`` of each size, and run them.

    Masks are in no graph.

    Raises:
        ValueError: If there is no size, or one is no multiple of twice the patch.
    """
    if not sizes:
        raise ValueError('--size: expected the size of the images, e.g. 640, got none')
    check_sizes(sizes, 2 * detector.backbone.visual.patch_size)
    found: list[Comparison] = []
    ratios: dict[str, float] = {}
    for size in sizes:
        name = f'{size[0]}x{size[1]}'
        path = folder / f'proposals_{name}.onnx'
        pixels = sample_pixels(size, picture)
        first = proposal_graph(detector, size, pixels[RANDOM][:1])
        write_graph(first, path)
        inputs = {what: {'images': value[:1]} for what, value in pixels.items()}
        found += compare_graph(first, path, inputs)
        ratios[path.name] = time_ratio(first, path, inputs[RANDOM])
        path = folder / f'boxes_{name}.onnx'
        with torch.no_grad():
            _, _, _, *maps = first.module(pixels[PICTURE][:1])
        second = box_graph(detector, size, maps)
        write_graph(second, path)
        boxes = {f'{PICTURE} and random boxes': second.inputs}
        reference = Graph(
            _BoxReference(detector, size), second.inputs, second.outputs, second.free, second.notes
        )
        found += compare_graph(reference, path, boxes)
        ratios[path.name] = time_ratio(reference, path, second.inputs)
    return found, ratios


def proposal_graph(detector: Any, size: Size, images: Tensor) -> Graph:
    """The graph from pixels to proposals."""
    module = ProposalGraph(detector, size).eval()
    num_levels = len(detector.roi_head.bbox_roi_extractor.featmap_strides)
    return Graph(
        module,
        {'images': images},
        ('boxes', 'scores', 'levels', *(f'maps_{index}' for index in range(num_levels + 1))),
        {},
        {
            'input': 'images: RGB in [0, 1], normalised in the graph; all of it is image',
            'output': 'boxes (N, 4) xyxy in pixels, scores and levels (N,), before suppression; '
            'maps_*: for the second graph',
            'suppression': f'the best of each level, then per level, '
            f'{dict(detector.rpn_head.test_cfg)}',
        },
    )


def box_graph(detector: Any, size: Size, maps: Sequence[Tensor]) -> Graph:
    """The graph from proposals and text to scores."""
    classifier = detector.roi_head.bbox_head.fc_cls
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(NUM_SAMPLE_BOXES, 2, 2, generator=generator).sort(dim=1).values
    boxes = (corners * torch.tensor([size[1], size[0]])).flatten(1)
    rows = NUM_SAMPLE_CLASSES + (not classifier.learn_background)
    text = F.normalize(torch.randn(rows, classifier.embed_dim, generator=generator), dim=1)
    is_base = torch.arange(rows) % 2 == 0
    inputs: Inputs = {'boxes': boxes, 'text': text, 'is_base': is_base, 'maps': tuple(maps)}
    background = 'its background is learned' if classifier.learn_background else 'background last'
    return Graph(
        BoxGraph(detector, size).eval(),
        inputs,
        ('scores', 'refined'),
        {'boxes': {0: 'boxes'}, 'text': {0: 'rows'}, 'is_base': {0: 'rows'}},
        {
            'input': 'boxes: (R, 4) of the first graph, after suppression; text: rows of length 1, '
            f'{background}; is_base: bool, one for each; maps_*: of the first graph',
            'output': 'scores: (R, C + 1), background last; refined: (R, 4) xyxy in pixels',
            'suppression': f'per class, {dict(detector.roi_head.test_cfg)}',
        },
    )
