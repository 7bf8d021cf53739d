"""What classes are called, from files of embeddings: for towers whose text tower is not at hand."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from refineclip.datasets.ov_splits import FOLDER as VOCABULARIES
from refineclip.encoders.text.embedder import load_text_embeddings
from refineclip.encoders.text.name_files import read_names

SYNONYMS = Path(__file__).parents[1] / 'names'


def gather_names(
    text_embeddings: str | Tensor, names: str, also: dict[str, str], synonyms: str
) -> tuple[Tensor, Tensor]:
    """Embeddings of labels, and of labels and synonyms together.

    Args:
        text_embeddings: File (C, T) of the classes, see :func:`load_text_embeddings`. A tensor in
            its place has no names to gather: both texts are it.
        names: Their names: a vocabulary of this package (``'coco'``), or a file.
        also: ``text_embeddings`` and ``names`` of what classes may be called besides.
        synonyms: Lines ``class; name; ...`` with names out of ``also``: a list of this project
            (``'coco_in-words-of-lvis'``), or a file. Classes without a line keep their label.

    Returns:
        (C, T) twice, unit length.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: If a line has an unknown class or name.
    """
    if isinstance(text_embeddings, Tensor):
        same = F.normalize(text_embeddings.to(torch.float32), dim=-1)
        return same, same
    label, classes = load_text_embeddings(text_embeddings, _find(names, VOCABULARIES))
    rows, others = load_text_embeddings(also['text_embeddings'], _find(also['names'], VOCABULARIES))
    row_of = dict(zip(others, rows, strict=True))
    rich, file = label.clone(), _find(synonyms, SYNONYMS)
    for line in read_names(file):
        title, *called = (part.strip() for part in line.split(';'))
        if title not in classes or not set(called) <= set(row_of):
            raise ValueError(
                f'{file}: expected a class of {names} and names of {also["names"]}, got {line!r}'
            )
        rich[classes.index(title)] += torch.stack([row_of[name] for name in called]).sum(dim=0)
    return label, F.normalize(rich, dim=-1)


def _find(name: str, folder: Path) -> Path:
    shipped = folder / f'{name}.txt'
    return shipped if shipped.is_file() else Path(name)
