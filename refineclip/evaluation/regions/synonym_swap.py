"""Other names for the classes of a test: how much of a score hangs on the very word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from refineclip.datasets.ov_splits import FOLDER
from refineclip.datasets.vocabularies import check_vocabulary, read_vocabulary

SHIPPED_SYNONYMS = FOLDER / 'ov-coco_synonyms.txt'


class SynonymSwap:
    """Replace every class name by another of the same meaning.

    Args:
        path: Lines ``name; synonym; another``; by default the shipped ones of OV-COCO's 65 classes.

    Attributes:
        synonyms: Name -> its other names.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a name has no synonym.
    """

    def __init__(self, path: str | Path = SHIPPED_SYNONYMS) -> None:
        self.path = path
        self.synonyms: dict[str, tuple[str, ...]] = {}
        for line in read_vocabulary(path):
            name, *others = (part.strip() for part in line.split(';'))
            self.synonyms[name] = tuple(other for other in others if other)
        without = [name for name, others in self.synonyms.items() if not others]
        if without:
            raise ValueError(
                f'{path}: expected "name; synonym" in each line, got only {without[:5]}'
            )

    def names(self, classes: Sequence[str], round_: int = 0) -> tuple[str, ...]:
        """The names to test with in place of the classes.

        Args:
            classes: Class names in the order of the labels.
            round_: Which synonym, for classes with several: counted around.

        Raises:
            ValueError: If a class has no synonym, or a synonym is the name of another class.
        """
        missing = [name for name in classes if name not in self.synonyms]
        if missing:
            raise ValueError(
                f'{self.path}: expected synonyms of all {len(classes)} classes, lacks '
                f'{len(missing)}: {missing[:5]}; give a file with lines "name; synonym"'
            )
        swapped = [self.synonyms[name][round_ % len(self.synonyms[name])] for name in classes]
        kept = sorted(set(swapped) & set(classes))
        if kept:
            raise ValueError(f'{self.path}: expected synonyms that are no class, got {kept[:5]}')
        return check_vocabulary(swapped, str(self.path))

    def num_rounds(self, classes: Sequence[str]) -> int:
        """Rounds after which every synonym of the classes was used."""
        return max(len(self.synonyms.get(name, ('',))) for name in classes)


def mean_scores(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each score over rounds; a score that a round lacks is left out."""
    shared = set.intersection(*(set(scores) for scores in rounds))
    return {
        name: sum(scores[name] for scores in rounds) / len(rounds)
        for name in rounds[0]
        if name in shared
    }
