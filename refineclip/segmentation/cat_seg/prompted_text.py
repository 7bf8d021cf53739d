"""A live CLIP text tower behind one prompt: trained with the segmentor, cached when it is not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from refineclip.datasets.vocabularies import title_of
from refineclip.encoders import build_clip
from refineclip.encoders.text.prompt_encoding import encode_prompts
from refineclip.encoders.weights.checkpoint_guard import require_whole_checkpoint


def first_synonym(name: str) -> str:
    """Return the first of the synonyms in a class name (``'bed; cot'``), underscores as spaces.

    CAT-Seg's released code takes the first of A-847's names and no other. They are separated by
    commas there, by semicolons in the list that ``tools/prepare/ade20k_847.py`` writes.
    """
    return title_of(name).replace('_', ' ')


@MODELS.register_module()
class PromptedTextEncoder(BaseModule):
    """Text embeddings of a vocabulary, with gradient, from one prompt per class.

    Differs from :class:`~refineclip.encoders.text.TextEmbedder`: one template, one synonym, the
    tower stays and learns. The context is cut to the longest prompt, which changes nothing under a
    causal mask, and saves three quarters of the work for usual class names.

    Args:
        model: Name of a CLIP with a text tower, see
            :func:`~refineclip.encoders.build.build_clip`.
        pretrained: Its weights.
        prompt: Sentence with ``{}`` for the name; this one is from the released CAT-Seg.
        frozen: Keep the tower fixed and in eval mode.
        model_kwargs: See :func:`~refineclip.encoders.build.build_clip`.
        init_cfg: mmengine's initialisation.

    Raises:
        ValueError: If the model has no text tower, or the prompt no ``{}``.
    """

    def __init__(
        self,
        model: str | dict[str, Any],
        pretrained: str | None = None,
        prompt: str = 'A photo of a {} in the scene',
        frozen: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if '{}' not in prompt:
            raise ValueError(f"prompt: expected a sentence with '{{}}', got {prompt!r}")
        clip = build_clip(model, pretrained, model_kwargs=model_kwargs)
        if clip.text is None:
            raise ValueError(
                f'expected a model with a text tower, got {model!r} without; take a CLIP'
            )
        self.text: nn.Module = clip.text
        self._tokenizer_factory = clip.tokenizer_factory
        self.prompt = prompt
        self.frozen = frozen
        self._tokens: dict[tuple[str, ...], Tensor] = {}
        self._cached: tuple[tuple[str, ...], Tensor] | None = None
        self._register_load_state_dict_pre_hook(self._forget)
        require_whole_checkpoint(self)
        self.text.requires_grad_(not frozen)
        self.train()

    @cached_property
    def tokenizer(self) -> Any:
        """The library's tokenizer, made when names come: SigLIP's needs a download."""
        assert self._tokenizer_factory is not None  # a model with text has one
        return self._tokenizer_factory()

    def train(self, mode: bool = True) -> PromptedTextEncoder:
        """Set the mode, and forget cached embeddings: weights may change from here on."""
        self._forget()
        super().train(mode)
        if self.frozen:
            self.text.eval()
        return self

    def forward(self, names: Sequence[str]) -> Tensor:
        """Embed class names.

        Args:
            names: C names; of synonyms the first counts.

        Returns:
            ``(C, D)``, L2-normalised. In eval mode without gradient the result is kept until the
            mode or the weights change.
        """
        key = tuple(names)
        keep = not self.training and not torch.is_grad_enabled()
        if keep and self._cached is not None and self._cached[0] == key:
            return self._cached[1]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            embeddings = F.normalize(encode_prompts(self.text, self.tokenize(key)), dim=-1)
        if keep:
            self._cached = key, embeddings
        return embeddings

    def tokenize(self, names: tuple[str, ...]) -> Tensor:
        """Return token ids ``(C, context)`` of the prompts, on the device of the tower."""
        device = next(self.text.parameters()).device
        if names not in self._tokens:
            prompts = [self.prompt.replace('{}', first_synonym(name)) for name in names]
            # Vocabularies alternate between training and validation; more are not kept.
            self._tokens = dict(list(self._tokens.items())[-1:])
            self._tokens[names] = self.tokenizer(prompts)
        self._tokens[names] = self._tokens[names].to(device)
        return self._tokens[names]

    def _apply(self, *args: Any, **kwargs: Any) -> PromptedTextEncoder:
        # What .to(), .half() and their like call: cached embeddings are of another place or type.
        self._forget()
        return super()._apply(*args, **kwargs)

    def _forget(self, *_: Any) -> None:
        self._cached = None
