"""Two texts of every class: its bare label, and all that it is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from refineclip.datasets.ov_splits import get_split
from refineclip.datasets.vocabularies import as_vocabulary, title_of
from refineclip.encoders.build import build_clip
from refineclip.encoders.text.embedder import TextEmbedder, load_text_embeddings

from .gathered_names import gather_names

JOINS = ('mean', 'text')
PARTS = ('classes', 'base')


class NameTexts(NamedTuple):
    """Embeddings of C classes, unit length.

    Attributes:
        label: (C, T) of the first name of each.
        rich: (C, T) of all its names together.
    """

    label: Tensor
    rich: Tensor


def build_texts(
    names: Sequence[Any] | str | dict[str, str] | None = None,
    model: str | dict[str, Any] | None = None,
    pretrained: str | None = None,
    templates: str | Sequence[str] = 'photo',
    rich_templates: str | Sequence[str] | None = None,
    join: str = 'mean',
    label: dict[str, Any] | None = None,
    rich: dict[str, Any] | None = None,
    gathered: dict[str, Any] | None = None,
) -> NameTexts:
    """Embed the names of the classes, or read embeddings from files.

    Args:
        names: Names with synonyms: a list of names and lists of names, a file of lines ``name;
            synonym``, or ``dict(split=..., part='classes' | 'base')`` of
            :func:`refineclip.datasets.ov_splits.get_split`.
        model: CLIP whose text tower embeds them.
        pretrained: Its weights.
        templates: Prompts of the label, as :class:`TextEmbedder` takes them.
        rich_templates: Prompts of the rich text; those of the label by default. Where a vocabulary
            has no synonyms, other wordings of the prompt are what a class can be called.
        join: ``'mean'``: the rich text is the mean of the embeddings of all names; ``'text'``: one
            text, the names one after the other, as SynCLIP's corpus has them.
        label: ``dict(text_embeddings=FILE)`` in place of names and model, for towers whose text
            tower is not at hand; a tensor (C, T) works as well.
        rich: The same for the rich text.
        gathered: Arguments of :func:`gather_names`, in place of both.

    Raises:
        ValueError: If there are several or none of names, files and ``gathered``, an unknown part
            or join, or embeddings of another number of classes.
    """
    given = [one is not None for one in (names, label, gathered)]
    if sum(given) != 1 or (label is None) != (rich is None):
        raise ValueError(
            'texts: expected names=... and model=..., or label=dict(text_embeddings=...) and '
            'rich=dict(text_embeddings=...), or gathered=dict(...)'
        )
    if gathered is not None:
        return NameTexts(*gather_names(**gathered))
    if join not in JOINS:
        raise ValueError(f'texts.join: expected one of {JOINS}, got {join!r}')
    if label is not None and rich is not None:
        texts = NameTexts(_read(label), _read(rich))
        if texts.label.shape != texts.rich.shape:
            raise ValueError(
                'texts: expected label and rich embeddings of the same classes, got shapes '
                f'{tuple(texts.label.shape)} and {tuple(texts.rich.shape)}'
            )
        return texts
    if model is None:
        raise ValueError('texts.model: expected a CLIP with a text tower, got None')
    vocabulary = _vocabulary(names)
    clip = build_clip(model, pretrained)
    labels = TextEmbedder(clip, templates).embed([title_of(name) for name in vocabulary])
    together = [', '.join(p.strip() for p in name.split(';')) for name in vocabulary]
    wording = templates if rich_templates is None else rich_templates
    words = vocabulary if join == 'mean' else together
    return NameTexts(labels, TextEmbedder(clip, wording).embed(words))


def _read(source: dict[str, Any]) -> Tensor:
    embeddings = source['text_embeddings']
    if not isinstance(embeddings, Tensor):
        return load_text_embeddings(embeddings)[0]
    return F.normalize(embeddings.to(torch.float32), dim=-1)


def _vocabulary(names: Any) -> tuple[str, ...]:
    if not isinstance(names, dict):
        return as_vocabulary(names, 'texts.names')
    part = names.get('part', 'classes')
    if part not in PARTS or set(names) - {'split', 'part'}:
        raise ValueError(
            f'texts.names: expected split=NAME and part out of {PARTS}, got {dict(names)}'
        )
    return getattr(get_split(names['split']), part)
