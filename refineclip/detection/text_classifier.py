"""A classifier whose weights are the embeddings of class names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from refineclip.datasets.ov_splits import get_split
from refineclip.datasets.vocabularies import as_vocabulary, title_of
from refineclip.encoders.text.text_bank import TextBank

from .score_fusion import cosine_logits

BACKGROUND = 'background'


@MODELS.register_module()
class TextClassifier(BaseModule):
    """``temperature * cos(projected feature, text)`` for C classes and the background, in float32.

    The text is a buffer outside of the state dict: another vocabulary changes no weight.

    Args:
        in_features: Channels of the features.
        text: Arguments of :class:`~refineclip.encoders.text_bank.TextBank`: ``model`` and
            ``pretrained`` of the same CLIP as the image side, or ``text_embeddings``, whose rows
            are those of the names and, unless it is learned, of "background".
        split: A benchmark whose classes and base classes are the defaults of the next two, see
            :func:`~refineclip.datasets.ov_splits.get_split`.
        names: C class names in the order of the data set's classes, synonyms of one class
            separated by ``;``; or a file of them.
        base_names: The classes that training teaches, or a file of them; the others are held out
            of its softmax and count as novel at test time. None: all of ``names``. Whatever the
            vocabulary, a class is base if its name is one of these.
        relu: Clip the projected features at zero; F-ViT's published heads do, whose projection is
            the class branch's linear layer (``num_cls_fcs=1``).
        temperature: Initial temperature; 50 in F-ViT.
        learn_temperature: Train it.
        learn_background: Train the embedding of the background in place of that of the word
            "background", as CLIM does. Needs no text of it.

    Attributes:
        names: The vocabulary, without the background.
        is_base: (C,) bool.

    Raises:
        ValueError: Names are empty or doubled, or the text does not fit them.
    """

    is_base: Tensor

    def __init__(
        self,
        in_features: int,
        text: dict[str, Any],
        split: str | None = None,
        names: Sequence[str] | str | Path | None = None,
        base_names: Sequence[str] | str | Path | None = None,
        relu: bool = False,
        temperature: float = 50.0,
        learn_temperature: bool = True,
        learn_background: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if split is not None:
            known = get_split(split)
            names = known.classes if names is None else names
            base_names = known.base or None if base_names is None else base_names
        if names is None:
            raise ValueError('classifier: expected names or a split, got neither')
        names = as_vocabulary(names, 'names')
        base = names if base_names is None else as_vocabulary(base_names, 'base_names')
        self.base_titles = frozenset(map(title_of, base))
        self.learn_background = learn_background
        self.bank = TextBank(self._rows(names), **text)
        self.register_buffer('is_base', torch.empty(0, dtype=torch.bool), persistent=False)
        self._mark_base()
        self.projection = nn.Linear(in_features, self.embed_dim)
        self.relu = relu
        self.temperature = nn.Parameter(
            torch.tensor(float(temperature)), requires_grad=learn_temperature
        )
        if learn_background:
            self.background = nn.Parameter(torch.randn(1, self.embed_dim) * self.embed_dim**-0.5)

    @property
    def embed_dim(self) -> int:
        """Width D of the text embeddings."""
        return self.bank.embeddings.shape[1]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the C classes."""
        return self.bank.names if self.learn_background else self.bank.names[:-1]

    @property
    def embeddings(self) -> Tensor:
        """Text (C + 1, D), L2-normalised, the background last."""
        if not self.learn_background:
            return self.bank.embeddings
        background = F.normalize(self.background.float(), dim=1)
        return torch.cat([self.bank.embeddings, background])

    def set_vocabulary(
        self, names: Sequence[str] | str | Path, classes: Sequence[str] | None = None
    ) -> None:
        """Classify among other names from now on.

        Args:
            names: See the class.
            classes: What the names stand for, one each: then these decide what is base, so that a
                synonym of a trained class is not taken for a novel one. None: the names decide.
        """
        self.bank.set_vocabulary(self._rows(as_vocabulary(names, 'vocabulary')))
        self._mark_base(classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (R, C + 1) of features (R, in_features), background last."""
        projected = self.projection(features)
        if self.relu:
            projected = F.relu(projected)
        return cosine_logits(projected, self.embeddings, self.temperature)

    def _rows(self, names: tuple[str, ...]) -> tuple[str, ...]:
        if self.learn_background:
            return names
        if BACKGROUND in map(title_of, names):
            raise ValueError(
                f'names: expected what is to be detected, got {BACKGROUND!r} among them, which the '
                'classifier adds itself as the class of no object; leave it out'
            )
        return (*names, BACKGROUND)

    def _mark_base(self, classes: Sequence[str] | None = None) -> None:
        flags = [title_of(name) in self.base_titles for name in classes or self.names]
        if len(flags) != len(self.names):
            raise ValueError(
                f'classes: expected one for each of {len(self.names)} names, got {len(flags)}'
            )
        self.is_base = torch.tensor(flags, device=self.is_base.device)
