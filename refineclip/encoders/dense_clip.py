"""Image tower with dense maps, text tower and logit scale under one roof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .towers.dense_vit import DenseViT


class DenseCLIP(nn.Module):
    """A CLIP-like model whose image tower gives dense maps.

    Args:
        visual: The image tower.
        text: The library's text tower, or None.
        logit_scale: Log of the inverse temperature, or None for vision-only towers.
        logit_bias: Bias of the logits (SigLIP), or None.
        tokenizer_factory: Called once, when :attr:`tokenizer` is first asked for: some tokenizers
            need a download.
    """

    logit_scale: nn.Parameter | None
    logit_bias: nn.Parameter | None

    def __init__(
        self,
        visual: DenseViT,
        text: nn.Module | None = None,
        logit_scale: nn.Parameter | None = None,
        logit_bias: nn.Parameter | None = None,
        tokenizer_factory: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__()
        self.visual = visual
        self.text = text
        self.register_parameter('logit_scale', logit_scale)
        self.register_parameter('logit_bias', logit_bias)
        self.tokenizer_factory = tokenizer_factory
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> Any:
        """The library's tokenizer: list of strings in, token ids ``(B, context)`` out.

        Raises:
            ValueError: If the model is vision-only.
        """
        if self.tokenizer_factory is None:
            raise ValueError(
                'expected a model with text, got a vision-only one; it has no tokenizer'
            )
        if self._tokenizer is None:
            self._tokenizer = self.tokenizer_factory()
        return self._tokenizer

    def forward(self, images: Tensor) -> Tensor:
        """Return image embeddings ``(B, D)`` of normalised images ``(B, 3, H, W)``."""
        return self.visual.image_embedding(images)
