"""Text embeddings of the classes of a data set, from a file or a text tower."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from refineclip.encoders.build import build_clip
from refineclip.encoders.sources import HF_HUB, LOCAL_DIR
from refineclip.encoders.text.embedder import TextEmbedder, load_text_embeddings

_COCO_SUFFIXES = re.compile(r'(-(merged|other|stuff))+$')


@dataclass(frozen=True)
class ClassTexts:
    """Embeddings of a vocabulary and where they are from.

    Attributes:
        embeddings: (C, D) float32, L2-normalised.
        source: Settings that decided them, for a result file.
    """

    embeddings: Tensor
    source: dict[str, Any]


def prompt_name(name: str) -> str:
    """Turn a class name of COCO panoptic into words: 'wall-other-merged' is a 'wall'.

    The endings ``-merged``, ``-other`` and ``-stuff`` tell how the annotation came about, not what
    is seen; other hyphens and underscores become spaces.
    """
    return re.sub(r'[-_]', ' ', _COCO_SUFFIXES.sub('', name))


def class_texts(
    all_classes: Sequence[str],
    classes: Sequence[str],
    path: str | Path | None = None,
    model: str | dict[str, Any] | None = None,
    pretrained: str | None = None,
    templates: str | Sequence[str] = 'vild',
    cache_dir: str | Path | None = None,
    class_names: str = 'words',
) -> ClassTexts:
    """Embed a vocabulary.

    Args:
        all_classes: The data set's classes, in the order of its sorted category ids.
        classes: The vocabulary, some or all of them.
        path: File of embeddings, see :func:`~refineclip.encoders.text.load_text_embeddings`. With
            names in it, rows are found by name (the data set's; with ``class_names='words'`` also
            as :func:`prompt_name` writes it); without, there is one row per class of
            ``all_classes``.
        model: Architecture whose text tower embeds the names, where there is no file.
        pretrained: Its weights.
        templates: Its prompts.
        cache_dir: Keep what it said here.
        class_names: 'raw' embeds the names as they are, as CLIPSelf's published embeddings were
            made ('wall-other-merged', hyphens and all); 'words' what :func:`prompt_name` makes of
            them ('wall').

    Raises:
        ValueError: If the file fits neither names nor classes, or there is no text tower.
        FileNotFoundError: If there is no such file.
    """
    written = [prompt_name(name) if class_names == 'words' else name for name in classes]
    if path is not None:
        embeddings, names = load_text_embeddings(path)
        rows = _rows_of(path, names, len(embeddings), all_classes, classes, written)
        return ClassTexts(embeddings[rows], {'file': str(path)})
    if model is None:
        raise ValueError('expected a file of text embeddings or a model with text, got neither')
    if isinstance(model, str) and model.startswith('timm/'):
        raise ValueError(
            f'expected --text-embeddings (and --text-head) for {model}, which has no text tower'
        )
    if isinstance(model, str) and pretrained is None and not model.startswith((LOCAL_DIR, HF_HUB)):
        raise ValueError(
            f'expected weights for the text tower of {model}, got none, and random text would '
            'score at chance; name a tag or file of the original model (--text-pretrained), or '
            'give --text-embeddings'
        )
    clip = build_clip(model, pretrained)
    embedder = TextEmbedder(clip.eval(), templates, cache_dir)
    source = {'model': model, 'pretrained': pretrained, 'templates': templates}
    return ClassTexts(embedder.embed(written), {**source, 'names': written})


def _rows_of(
    path: str | Path,
    names: Sequence[str],
    num_rows: int,
    all_classes: Sequence[str],
    classes: Sequence[str],
    written: Sequence[str],
) -> list[int]:
    if not names:
        if num_rows != len(all_classes):
            raise ValueError(
                f'{path}: expected one row per class of the data set, {len(all_classes)}, got '
                f'{num_rows} rows without names'
            )
        return [all_classes.index(name) for name in classes]
    row_of = {name: row for row, name in reversed(list(enumerate(names)))}
    pairs = zip(classes, written, strict=True)
    found = [row_of.get(name, row_of.get(words)) for name, words in pairs]
    rows = [row for row in found if row is not None]
    if len(rows) < len(classes):
        missing = [name for name, row in zip(classes, found, strict=True) if row is None]
        how_many = 'none' if not rows else f'{len(rows)}'
        raise ValueError(
            f'{path}: expected a row for each of the {len(classes)} classes, got {how_many} of '
            f'them (missing: {missing[:5]}); its names begin with {list(names)[:5]}. Limit the '
            "vocabulary (--classes), embed the missing names, or take names without COCO's endings "
            '(--class-names words)'
        )
    return rows
