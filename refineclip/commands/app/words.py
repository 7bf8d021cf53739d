"""What the tab Words shows: words to embeddings, heat maps and named pixels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.colors import Normalize
from numpy.typing import NDArray
from torch import Tensor

from refineclip.datasets.vocabularies import check_vocabulary
from refineclip.encoders.text.embedder import TextEmbedder
from refineclip.encoders.text.queries import Queries, make_queries
from refineclip.encoders.text.text_head import TextHead
from refineclip.visualization import cosine_colours, name_pixels, text_cosines
from refineclip.visualization.pictures import Picture

MAX_WORDS, MAX_LETTERS = 50, 100
MAX_KEPT = 2000


@dataclass(frozen=True)
class Vocabulary:
    """Words and their embeddings (Q, D)."""

    names: tuple[str, ...]
    queries: Queries
    embeddings: Tensor


class Words:
    """Names what maps show.

    Args:
        embedder: Embeds texts; each text is embedded once and kept, up to ``MAX_KEPT``.
        head: Maps features into the text space, for towers without text.
    """

    def __init__(self, embedder: TextEmbedder, head: TextHead | None = None) -> None:
        self.embedder, self.head = embedder, head
        self.kept: OrderedDict[str, Tensor] = OrderedDict()

    def vocabulary(self, words: Sequence[str], synonyms: str) -> Vocabulary:
        """Embed words, whose synonyms stand between ';'.

        Args:
            words: Names.
            synonyms: ``'max'``: the best of them, or ``'mean'``.

        Raises:
            ValueError: If there are too many or too long ones, or one is empty or there twice.
        """
        if len(words) > MAX_WORDS:
            raise ValueError(f'words: expected up to {MAX_WORDS}, got {len(words)}')
        if any(len(word) > MAX_LETTERS for word in words):
            raise ValueError(f'words: expected up to {MAX_LETTERS} letters each, got more')
        names = check_vocabulary(list(words), 'words')
        queries = make_queries(names, synonyms, readable=False)
        new = [text for text in dict.fromkeys(queries.texts) if text not in self.kept]
        if new:
            self.kept.update(zip(new, self.embedder.embed(new), strict=True))
        embeddings = torch.stack([self.kept[text] for text in queries.texts])
        while len(self.kept) > MAX_KEPT:
            self.kept.popitem(last=False)
        return Vocabulary(names, queries, embeddings)

    def labels(
        self, features: Tensor, vocabulary: Vocabulary, size: tuple[int, ...], prob_thd: float
    ) -> NDArray[np.int64]:
        """Index of the word of each pixel (H, W), -1 where none is likely enough."""
        return name_pixels(
            features, vocabulary.embeddings, size, self.head, vocabulary.queries.owner, prob_thd
        )

    def heat_maps(
        self, maps: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, list[Picture]], list[Normalize]]:
        """Cosines of tokens with each word, the best of its synonyms.

        Args:
            maps: Row -> map (D, h, w).
            vocabulary: C words.

        Returns:
            Row -> colours (h, w, 3) per word, and the range of each word, which is that of all
            rows, 1st percentile to largest, so that rows compare.
        """
        owner = torch.tensor(vocabulary.queries.owner)
        scores = {}
        for row, one in maps.items():
            cosines = text_cosines(one, vocabulary.embeddings, self.head)
            scores[row] = [
                cosines[owner == index].amax(0).numpy() for index in range(len(vocabulary.names))
            ]
        limits = []
        for own in zip(*scores.values(), strict=True):
            values = np.concatenate([one.ravel() for one in own])
            limits.append(Normalize(float(np.percentile(values, 1)), float(values.max())))
        colours = {
            row: [cosine_colours(one, own) for one, own in zip(per_word, limits, strict=True)]
            for row, per_word in scores.items()
        }
        return colours, limits
