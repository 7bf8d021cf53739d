"""The text side of an open-vocabulary head: embeddings of a vocabulary that can be exchanged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log
from torch import Tensor, nn

from ..build import build_clip
from ..sources import HF_HUB, LOCAL_DIR
from .embedder import TextEmbedder, load_text_embeddings
from .name_files import read_names

Found = TypeVar('Found')


def from_first_process(make: Callable[[], Found]) -> Found:
    """What ``make`` gives in the first process, in all of them; all have to call.

    An error there is raised in all, so that none waits for what will not come.
    """
    answer: list[Any] = [None, None]
    if is_main_process():
        try:
            answer[0] = make()
        except Exception as error:
            answer[1] = error
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


class TextBank(nn.Module):
    """Embeddings of C class names, as a buffer that no checkpoint holds.

    A vocabulary belongs to a use, not to trained weights; so the buffer is not persistent, and
    another vocabulary changes nothing that was learned.

    Args:
        names: C class names, synonyms of one class separated by ``;``; or a file of them.
        model: Architecture whose text tower embeds the names, see
            :func:`~refineclip.encoders.build.build_clip`. The tower is dropped once it has spoken.
        pretrained: Weights of that tower.
        templates: Prompts, see :class:`~refineclip.encoders.text.TextEmbedder`.
        cache_dir: Keep embeddings here, keyed by weights, names and templates.
        text_embeddings: A tensor (C, D) or a file of embeddings in place of a tower. If the file
            has names, rows are found by name.
        embed_dim: D that the image side expects; ``None`` accepts any.
        device: Where the tower runs; ``None``: where the bank has been moved to, and before that
            mmengine's device, the GPU where there is one. Of several processes the first runs it.

    Attributes:
        names: The vocabulary.
        embeddings: (C, D) float32, L2-normalised.

    Raises:
        ValueError: Neither tower nor embeddings, or embeddings of another width or number.
        FileNotFoundError: A file does not exist.
    """

    embeddings: Tensor

    def __init__(
        self,
        names: Sequence[str] | str | Path,
        model: str | dict[str, Any] | None = None,
        pretrained: str | None = None,
        templates: str | Sequence[str] = 'vild',
        cache_dir: str | Path | None = None,
        text_embeddings: str | Path | Tensor | None = None,
        embed_dim: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if model is None and text_embeddings is None:
            raise ValueError(
                'expected the model of a text tower or text_embeddings (a file or a tensor), '
                'got neither'
            )
        self.model, self.pretrained, self.templates = model, pretrained, templates
        self.cache_dir, self.text_embeddings = cache_dir, text_embeddings
        self.embed_dim, self.device = embed_dim, device
        self.names: tuple[str, ...] = ()
        self.register_buffer('embeddings', torch.empty(0, embed_dim or 0), persistent=False)
        self.set_vocabulary(names)

    def set_vocabulary(self, names: Sequence[str] | str | Path) -> None:
        """Replace the vocabulary; the embeddings stay on their device.

        Raises:
            ValueError: The given embeddings lack a name, or have another width or number of rows.
        """
        names = read_names(names) if isinstance(names, str | Path) else list(names)
        embeddings = self.embed(names)
        if self.embed_dim is not None and embeddings.shape[1] != self.embed_dim:
            raise ValueError(
                f'expected text embeddings of width {self.embed_dim}, which is that of the image '
                f'side, got {embeddings.shape[1]}; take the text tower of the same CLIP'
            )
        self.names = tuple(names)
        self.embeddings = embeddings.to(self.embeddings.device)

    def embed(self, names: Sequence[str]) -> Tensor:
        """Embed names (C) as the bank does; returns (C, D) float32, L2-normalised, on the CPU."""
        if isinstance(self.text_embeddings, Tensor):
            if len(self.text_embeddings) != len(names):
                raise ValueError(
                    f'text_embeddings: expected one row for each of {len(names)} names, got '
                    f'{len(self.text_embeddings)}'
                )
            return F.normalize(self.text_embeddings.float(), dim=-1)
        if self.text_embeddings is not None:
            return self._from_file(self.text_embeddings, names)
        if self.pretrained is None and not str(self.model).startswith((LOCAL_DIR, HF_HUB)):
            print_log(
                f'The text tower of {self.model} has random weights (pretrained=None): its '
                'classes mean nothing',
                logger='current',
                level=logging.WARNING,
            )
        return from_first_process(lambda: self._from_tower(names))

    def _from_tower(self, names: Sequence[str]) -> Tensor:
        assert self.model is not None  # checked when built
        with torch.device('cpu'):
            clip = build_clip(self.model, self.pretrained).eval()
        own = self.embeddings.device
        moved = own.type not in ('cpu', 'meta')
        if clip.text is not None:
            clip.text.to(self.device or (own if moved else get_device()))
        return TextEmbedder(clip, self.templates, self.cache_dir).embed(names)

    def _from_file(self, path: str | Path, names: Sequence[str]) -> Tensor:
        embeddings, known = load_text_embeddings(path)
        if not known:
            return load_text_embeddings(path, names)[0]
        if known == list(names):  # by position: the classes of a data set may have equal names
            return embeddings
        row_of = {name: row for row, name in enumerate(known)}
        missing = [name for name in names if name not in row_of]
        if missing:
            raise ValueError(
                f'{path}: expected embeddings of all {len(names)} names, lacks {len(missing)}: '
                f'{missing[:5]}; name a text tower (model=...) to embed any name'
            )
        return embeddings[[row_of[name] for name in names]]
