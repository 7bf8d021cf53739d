"""CAT-Seg's cost aggregation: image-text similarities to refined logits per class.

Shapes: B images, D joint embedding, C classes of the vocabulary, T <= C classes that are run,
(h, w) token grid, N = h * w.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from .class_aggregation import ClassAggregation
from .decoder import GuidedDecoder
from .spatial_aggregation import Grid, SpatialAggregation

# Logit of a class that was not run; from the released code.
ABSENT_LOGIT = -100.0


class AggregationLayer(BaseModule):
    """Spatial, then class aggregation.

    Args:
        embed_dims: Channels of the cost volume.
        guidance_dims: Channels of projected image and text guidance.
        num_heads: Attention heads.
        window_size: Side of the spatial windows, in positions.
        pad_len: See :class:`ClassAggregation`; ``pooling_size`` and ``test_pooling_size`` as well.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        embed_dims: int,
        guidance_dims: int,
        num_heads: int,
        window_size: int,
        pad_len: int,
        pooling_size: int,
        test_pooling_size: int,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.spatial = SpatialAggregation(embed_dims, guidance_dims, num_heads, window_size)
        self.classes = ClassAggregation(
            embed_dims, guidance_dims, num_heads, pad_len, pooling_size, test_pooling_size
        )

    def forward(
        self, x: Tensor, appearance: Tensor, text: Tensor, grid: Grid, chunk: int | None
    ) -> Tensor:
        """Update cost maps ``(B, T, N, C)``, ``chunk`` classes at a time."""
        guides = self.spatial.guide(appearance)
        if chunk is None:
            x = self.spatial(x, guides, grid)
        else:
            parts = x.split(chunk, dim=1)
            x = torch.cat([self.spatial(part, guides, grid) for part in parts], dim=1)
        return self.classes(x, text, grid, chunk)


class CostAggregator(BaseModule):
    """The aggregator of CAT-Seg (CVPR 2024, arXiv 2303.11797).

    Same function as the published one and weights of the same shapes, computed with less: what the
    guidance contributes is projected once per image and not once per class, padding classes are
    summed in closed form, shifted windows are cut instead of masked, and without gradient the
    classes run in chunks.

    Args:
        text_dims: Width D of the joint embedding.
        embed_dims: Channels of the cost volume.
        guidance_dims: Channels that image and text guidance are projected to.
        num_layers: Aggregation layers; 2 in the released recipes (4 in their base config).
        num_heads: Attention heads.
        window_size: Side of the spatial windows, in positions; the grid is a multiple of it.
        pad_len: Classes that the class attention always sees. Of larger vocabularies, the
            ``pad_len`` classes with the highest similarity anywhere in the image are run, the
            others get the logit -100. 0 turns both off.
        pooling_size: Pooling of the class attention while training.
        test_pooling_size: The same in eval mode.
        decoder_channels: Channels of the decoder's stages.
        decoder_guidance_in_channels: Channels of the decoder's guidance maps.
        decoder_guidance_channels: What they are projected to.
        chunk: Classes run at a time without gradient.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        text_dims: int = 512,
        embed_dims: int = 128,
        guidance_dims: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        window_size: int = 12,
        pad_len: int = 256,
        pooling_size: int = 2,
        test_pooling_size: int = 1,
        decoder_channels: Sequence[int] = (64, 32),
        decoder_guidance_in_channels: Sequence[int] = (256, 128),
        decoder_guidance_channels: Sequence[int] = (32, 16),
        chunk: int = 16,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.pad_len, self.chunk = pad_len, chunk
        self.cost_embedding = nn.Conv2d(1, embed_dims, 7, padding=3)
        self.appearance_projection = nn.Conv2d(text_dims, guidance_dims, 3, padding=1)
        self.text_projection = nn.Linear(text_dims, guidance_dims)
        self.layers = nn.ModuleList(
            AggregationLayer(
                embed_dims,
                guidance_dims,
                num_heads,
                window_size,
                pad_len,
                pooling_size,
                test_pooling_size,
            )
            for _ in range(num_layers)
        )
        self.decoder = GuidedDecoder(
            embed_dims, decoder_channels, decoder_guidance_in_channels, decoder_guidance_channels
        )

    def forward(
        self, image: Tensor, text: Tensor, guidance: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Score classes.

        Args:
            image: Dense embeddings ``(B, D, h, w)``, not normalised: they guide as they are.
            text: Text embeddings ``(C, D)``, L2-normalised.
            guidance: Maps ``(B, ., 2h, 2w)`` and ``(B, ., 4h, 4w)`` for the decoder.

        Returns:
            Logits ``(B, T, 4h, 4w)``, and which classes they are of: ``(B, T)``, ascending, or
            None if all C were run.
        """
        similarity = torch.einsum('bdhw,cd->bchw', F.normalize(image, dim=1), text)
        classes = None
        if self.pad_len and text.shape[0] > self.pad_len:
            best = similarity.flatten(2).amax(-1)
            classes = best.topk(self.pad_len, sorted=False).indices.sort().values
            similarity = similarity.gather(
                1, classes[..., None, None].expand(-1, -1, *similarity.shape[2:])
            )
            text = text[classes]
        appearance = F.relu(self.appearance_projection(image)).flatten(2).transpose(1, 2)
        text = F.relu(self.text_projection(text))
        grid = (image.shape[2], image.shape[3])
        chunk = None if torch.is_grad_enabled() else self.chunk
        x = self._embed(similarity)
        for layer in self.layers:
            x = layer(x, appearance, text, grid, chunk)
        return self._decode(x, guidance, grid, chunk), classes

    def _embed(self, similarity: Tensor) -> Tensor:
        """Embed similarities ``(B, T, h, w)`` as cost maps ``(B, T, N, C)``."""
        # A convolution of one input channel, written as a product that puts channels last.
        patches = F.unfold(similarity.flatten(0, 1)[:, None], 7, padding=3).transpose(1, 2)
        weight = self.cost_embedding.weight.flatten(1)
        return F.linear(patches, weight, self.cost_embedding.bias).unflatten(
            0, similarity.shape[:2]
        )

    def _decode(
        self, x: Tensor, guidance: Sequence[Tensor], grid: Grid, chunk: int | None
    ) -> Tensor:
        guides = self.decoder.guide(guidance)
        # With the channels last in memory, which is where the layers left them.
        maps = x.unflatten(2, grid).permute(0, 1, 4, 2, 3)
        if chunk is None:
            return self.decoder(maps, guides)
        return torch.cat([self.decoder(part, guides) for part in maps.split(chunk, 1)], dim=1)


def place_classes(logits: Tensor, classes: Tensor | None, num_classes: int) -> Tensor:
    """Return logits ``(B, C, H, W)`` of the whole vocabulary from those that were run.

    Args:
        logits: ``(B, T, H, W)``.
        classes: Their classes ``(B, T)``, or None if there are all.
        num_classes: C.
    """
    if classes is None:
        return logits
    shape = (len(logits), num_classes, *logits.shape[2:])
    index = classes[..., None, None].expand_as(logits)
    return logits.new_full(shape, ABSENT_LOGIT).scatter(1, index, logits)
