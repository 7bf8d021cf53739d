"""CAT-Seg as an ONNX graph with the vocabulary as an input, and its text tower beside it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from .compare import RANDOM, Comparison, sample_pixels
from .onnx_detector import Normalize
from .onnx_encoder import Size, TextGraph, check_sizes, context_length
from .onnx_graph import Graph, compare_graph, time_ratio, write_graph
from .subject import sample_tokens


class SegmentGraph(nn.Module):
    """One view of an image and a vocabulary to logits; windows are outside.

    Args:
        segmentor: The CATSeg.
    """

    def __init__(self, segmentor: Any) -> None:
        super().__init__()
        self.normalize = Normalize(segmentor.data_preprocessor)
        self.segmentor = copy.deepcopy(segmentor)
        self.segmentor.decode_head.aggregator.chunk = None  # one pass, whatever the vocabulary

    def forward(self, images: Tensor, text: Tensor) -> tuple[Tensor]:
        """Map images (1, 3, H, W) and text (C, D), L2-normalised, to logits (1, C, 4h, 4w)."""
        image, intermediate = self.segmentor.extract_feat(self.normalize(images))
        return (self.segmentor.decode_head(image, intermediate, text),)


def export_segmentor(
    segmentor: Any, folder: Path, picture: Image.Image, sizes: Sequence[Size]
) -> tuple[list[Comparison], dict[str, float]]:
    """Write ``segment_HxW.onnx`` of each size and ``text.onnx``, and run them.

    Raises:
        ValueError: If a size is no multiple of the patch, or the exporter cannot trace the model.
    """
    segmentor.requires_grad_(False).eval()
    visual = segmentor.backbone.visual
    if not sizes:
        sizes = [segmentor.input_size or visual.native_size]
    if segmentor.input_size is None:
        check_sizes(sizes, visual.patch_size)
    found: list[Comparison] = []
    ratios: dict[str, float] = {}
    pad_len = segmentor.decode_head.aggregator.pad_len
    counts = (2, min(7, pad_len - 1)) if pad_len else (2, 7)
    for size in sizes:
        path = folder / f'segment_{size[0]}x{size[1]}.onnx'
        pixels = sample_pixels(size, picture)
        graph = segment_graph(segmentor, pixels[RANDOM][:1])
        write_graph(graph, path)
        inputs = {
            f'{what}, {count} classes': {'images': value[:1], 'text': sample_text(segmentor, count)}
            for what, value in pixels.items()
            for count in counts
        }
        found += compare_graph(graph, path, inputs)
        ratios[path.name] = time_ratio(graph, path, graph.inputs)
    path = folder / 'text.onnx'
    text_tower: Any = segmentor.text_encoder.text
    tokens = sample_tokens(text_tower, context_length(text_tower))
    graph = Graph(
        TextGraph(text_tower),
        {'tokens': tokens},
        ('embeddings',),
        {'tokens': {0: 'prompts'}},
        {
            'input': f"tokens: int64 (prompts, {tokens.shape[1]}) of the model's own tokenizer",
            'output': 'embeddings: (prompts, D), to be L2-normalised',
            'prompt': segmentor.text_encoder.prompt,
        },
    )
    write_graph(graph, path)
    found += compare_graph(graph, path, {'random tokens': {'tokens': tokens}})
    ratios[path.name] = time_ratio(graph, path, graph.inputs)
    return found, ratios


def sample_text(segmentor: Any, count: int) -> Tensor:
    """Random text embeddings (count, D), L2-normalised."""
    generator = torch.Generator().manual_seed(count)
    dims = segmentor.backbone.embed_dim
    return F.normalize(torch.randn(count, dims, generator=generator), dim=1)


def segment_graph(segmentor: Any, images: Tensor) -> Graph:
    """The graph from pixels and text to logits."""
    pad_len = segmentor.decode_head.aggregator.pad_len
    return Graph(
        SegmentGraph(segmentor).eval(),
        {'images': images, 'text': sample_text(segmentor, 3)},
        ('logits',),
        {'text': {0: 'classes'}},
        {
            'input': 'images: RGB in [0, 1], normalised in the graph; text: (classes, D), rows of '
            'length 1',
            'output': 'logits: (1, classes, h, w), whose sigmoid is the probability',
            'classes': f'2 to {pad_len - 1}' if pad_len else 'any number from 2',
        },
        {'classes': (2, pad_len - 1)} if pad_len else {},
    )
