"""The vocabulary file of the microworld's tokenizer, for open_clip's ``SimpleTokenizer``."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from .vocabulary import WORDS

NUM_BYTES = 256
SPECIAL_TOKENS = 2


def byte_pair_merges(words: Sequence[str] = WORDS) -> list[tuple[str, str]]:
    """Merges that put the letters of each word together from the left, without repeats.

    Earlier merges win, so a word that holds another may stay in two pieces ('s', 'and').
    """
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        letters = [*word[:-1], f'{word[-1]}</w>']
        prefix = letters[0]
        for letter in letters[1:]:
            merges[prefix, letter] = None
            prefix += letter
    return list(merges)


def vocabulary_size(words: Sequence[str] = WORDS) -> int:
    """Tokens in all: bytes, bytes that end a word, merges, start and end of text."""
    return 2 * NUM_BYTES + len(byte_pair_merges(words)) + SPECIAL_TOKENS


def write_merges(path: str | Path, words: Sequence[str] = WORDS) -> None:
    """Write the gzipped file of ``SimpleTokenizer(bpe_path=...)``; same words, same bytes."""
    lines = ['#version: 1', *(' '.join(pair) for pair in byte_pair_merges(words))]
    Path(path).write_bytes(gzip.compress('\n'.join(lines).encode(), mtime=0))
