"""An encoder as ONNX graphs: the image side at fixed sizes, and the text tower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from refineclip.encoders.refiner_clip import RefinerCLIP
from refineclip.encoders.towers.dense_modes import check_dense_mode

from .compare import RANDOM, Comparison, sample_pixels
from .onnx_graph import Graph, compare_graph, time_ratio, write_graph
from .subject import Subject, sample_tokens

Size = tuple[int, int]


class ImageGraph(nn.Module):
    """RGB in [0, 1] to the dense map (refined, with a Refiner) and the library's image embedding.

    Args:
        encoder: The encoder; its normalisation becomes part of the graph.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: RefinerCLIP) -> None:
        super().__init__()
        self.encoder = encoder
        for name, value in (('mean', encoder.image_mean), ('std', encoder.image_std)):
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, 3, H, W) to (B, D, h, w) and (B, D), not normalised."""
        encoder = self.encoder
        trunk, grid = encoder.trunk((images - self.mean) / self.std)
        dense = encoder.embedding_map(encoder.dense_tokens(trunk, grid), grid)
        rest = encoder.visual.run(trunk, grid, encoder.trunk_depth)
        return dense, encoder.visual.pool(rest)


class TextGraph(nn.Module):
    """Token ids to text embeddings.

    Args:
        text: The text tower, whose causal mask becomes part of the graph.
    """

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text

    def forward(self, tokens: Tensor) -> tuple[Tensor]:
        """Map token ids (P, T) int64 to embeddings (P, D), not normalised."""
        return (self.text(tokens),)


def check_sizes(sizes: Sequence[Size], patch: int) -> None:
    """Refuse sizes without a whole number of patches.

    Raises:
        ValueError: Naming the size and the nearest ones.
    """
    for height, width in sizes:
        if height % patch or width % patch or min(height, width) < patch:
            near = [max(patch, round(side / patch) * patch) for side in (height, width)]
            raise ValueError(
                f'--size: expected multiples of the patch of {patch} px, got {height}x{width}; '
                f'the nearest is {near[0]}x{near[1]}'
            )


def export_onnx(
    subject: Subject,
    folder: Path,
    picture: Image.Image,
    sizes: Sequence[Size] = (),
    image: bool = True,
    text: bool = True,
) -> tuple[list[Comparison], dict[str, float]]:
    """Write ``image_HxW.onnx`` for each size and ``text.onnx``, and run them with onnxruntime.

    Args:
        subject: What is exported.
        folder: Empty.
        picture: For the comparison.
        sizes: (height, width) in pixels; the tower's native size if there is none.
        image: Write the image side.
        text: Write the text tower.

    Returns:
        What was compared, and the time of onnxruntime as a share of eager PyTorch, by file.

    Raises:
        ValueError: If a size is no multiple of the patch, or there is no text tower.
    """
    visual = subject.encoder.visual
    sizes = sizes or [visual.native_size]
    check_sizes(sizes, visual.patch_size)
    check_dense_mode(subject.encoder.dense_mode, visual.num_class_tokens)
    towers = subject.with_text() if text else None
    found: list[Comparison] = []
    ratios: dict[str, float] = {}
    for height, width in sizes if image else ():
        path = folder / f'image_{height}x{width}.onnx'
        pixels = sample_pixels((height, width), picture)
        graph = image_graph(subject, pixels[RANDOM])
        write_graph(graph, path)
        inputs = {name: {'images': value} for name, value in pixels.items()}
        inputs['one image'] = {'images': pixels[RANDOM][:1]}
        found += compare_graph(graph, path, inputs)
        ratios[path.name] = time_ratio(graph, path, inputs['one image'])
    if towers is not None:
        path = folder / 'text.onnx'
        text_tower: Any = towers.text
        tokens = sample_tokens(text_tower, context_length(text_tower))
        graph = text_graph(subject, text_tower, tokens)
        write_graph(graph, path)
        inputs = {'random tokens': {'tokens': tokens}, 'one prompt': {'tokens': tokens[:1]}}
        found += compare_graph(graph, path, inputs)
        ratios[path.name] = time_ratio(graph, path, inputs['random tokens'])
    return found, ratios


def context_length(text: Any) -> int:
    """Tokens of a prompt that a text tower takes."""
    return int(getattr(text, 'context_length', None) or 77)


def image_graph(subject: Subject, images: Tensor) -> Graph:
    """The image side of an encoder, for images of one size (2, 3, H, W)."""
    encoder = subject.encoder
    refined = '' if encoder.refiner is None else f', Refiner of {encoder.refiner.num_blocks} blocks'
    return Graph(
        ImageGraph(encoder),
        {'images': images},
        ('dense', 'embedding'),
        {'images': {0: 'batch'}},
        {
            'model': subject.model,
            'input': 'images: RGB in [0, 1], normalised in the graph',
            'output': 'dense: map (batch, D, h, w); embedding: (batch, D); not L2-normalised',
            'dense mode': encoder.dense_mode + refined,
        },
    )


def text_graph(subject: Subject, text: nn.Module, tokens: Tensor) -> Graph:
    """A text tower, for prompts of T tokens (P, T)."""
    return Graph(
        TextGraph(text),
        {'tokens': tokens},
        ('embeddings',),
        {'tokens': {0: 'prompts'}},
        {
            'model': subject.model,
            'input': f"tokens: int64 (prompts, {tokens.shape[1]}) of the model's own tokenizer",
            'output': 'embeddings: (prompts, D), not L2-normalised',
        },
    )
