"""The paper's five claims as comparisons with thresholds, written down before the demo was run.

Region accuracy is decided by ``boxes_class_top1`` (RoIAlign on the dense map, mean over classes),
the paper's own reading. Spatial quality is decided by ``gk``: k-means over the tokens of all images
against all kinds and backgrounds, the nearest in small to the unsupervised segmentation that the
paper measures, and of our five measures the one that no label, no text and no single image helps.
The other four are printed beside it and may disagree.

Intervals are those of :mod:`refineclip.evaluation.seeds`. A comparison *holds* if its whole
interval is above its threshold, *does not hold* if its whole interval is below, and is *within
noise* otherwise; a claim is as good as its worst comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refineclip.evaluation.bootstrap import ImageScores
from refineclip.evaluation.seeds import Interval, compare

FROZEN, REFINER, RLA, SC_RLA, R_SC_RLA = 'frozen CLIP', 'Refiner', 'RLA', 'SC-RLA', 'R-SC-RLA'
ALONE, ONE_CONTEXT, MANY_CONTEXTS = 'no context', '1 context', 'most contexts'
REGION, CROPS, SPATIAL = 'boxes_class_top1', 'crops_class_top1', 'gk'
OTHER_SPATIAL = ('auc', 'imk', 'knn', 'ridge')

# How far crops must be above dense tokens to speak of bad alignment; accuracy.
BAD_ALIGNMENT = 0.10
# What may be lost where a claim says "kept" or "restored". Not stated in the paper; ours.
REGION_MARGIN, SPATIAL_MARGIN = 0.05, 0.01

HOLDS, NOISE, FAILS = 'holds', 'within noise', 'does not hold'

# Row -> one mapping of measures per seed; rows that no seed changes have one.
Rows = Mapping[str, Sequence[Mapping[str, ImageScores]]]


@dataclass(frozen=True)
class Comparison:
    """``row.measure - against.against_measure > limit``.

    Attributes:
        row: The row that should be above.
        against: The row that should be below.
        measure: Of both rows; of ``row`` only if ``against_measure`` is given.
        limit: Threshold of the difference, negative where a small loss is allowed.
        against_measure: Measure of ``against``.
    """

    row: str
    against: str
    measure: str
    limit: float = 0.0
    against_measure: str | None = None

    def difference(self, rows: Rows) -> Interval:
        """The difference; see the module for its interval."""
        own, other = rows[self.row], rows[self.against]
        return compare(
            [one[self.measure] for one in own],
            [one[self.against_measure or self.measure] for one in other],
        )

    def judge(self, interval: Interval) -> str:
        """Hold the interval against the limit."""
        if interval.low > self.limit:
            return HOLDS
        return FAILS if interval.high < self.limit else NOISE

    def __str__(self) -> str:
        measure = self.measure
        if self.against_measure is not None:
            return f'{self.row}: {measure} - {self.against_measure} > {self.limit:g}'
        return f'{measure}: {self.row} - {self.against} > {self.limit:g}'


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper and the comparisons that decide it.

    Attributes:
        name: C1 to C5.
        text: What is claimed.
        deciding: All must hold.
        beside: Printed, but decide nothing.
    """

    name: str
    text: str
    deciding: tuple[Comparison, ...]
    beside: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """What came out for one claim.

    Attributes:
        claim: The claim.
        verdict: ``holds``, ``within noise`` or ``does not hold``.
        deciding: Comparison, difference and verdict.
        beside: The same, of those that decide nothing.
    """

    claim: Claim
    verdict: str
    deciding: tuple[tuple[Comparison, Interval, str], ...]
    beside: tuple[tuple[Comparison, Interval, str], ...]

    @property
    def sentence(self) -> str:
        """One sentence with the verdict and the numbers."""
        parts = '; '.join(f'{c} is {i} ({v})' for c, i, v in self.deciding)
        return f'{self.headline} {parts}.'

    @property
    def headline(self) -> str:
        """The verdict and the claim, without numbers."""
        return f'{self.claim.name} {self.verdict}: {self.claim.text}.'


def _spatial(row: str, against: str, limit: float = 0.0) -> tuple[Comparison, ...]:
    return tuple(Comparison(row, against, measure, limit) for measure in OTHER_SPATIAL)


CLAIMS = (
    Claim(
        'C1',
        'dense tokens of CLIP are badly aligned with region text, compared to crops',
        (Comparison(FROZEN, FROZEN, CROPS, BAD_ALIGNMENT, REGION),),
    ),
    Claim(
        'C2',
        'RLA raises region accuracy and lowers spatial quality',
        (Comparison(RLA, FROZEN, REGION), Comparison(FROZEN, RLA, SPATIAL)),
        _spatial(FROZEN, RLA),
    ),
    Claim(
        'C3',
        'SCD restores spatial quality while region accuracy is kept',
        (
            Comparison(SC_RLA, RLA, SPATIAL),
            Comparison(SC_RLA, FROZEN, SPATIAL, -SPATIAL_MARGIN),
            Comparison(SC_RLA, RLA, REGION, -REGION_MARGIN),
        ),
        (*_spatial(SC_RLA, RLA), *_spatial(SC_RLA, FROZEN, -SPATIAL_MARGIN)),
    ),
    Claim(
        'C4',
        'the Refiner is better than CLIP spatially, and R-SC-RLA is best on both sides',
        (
            Comparison(REFINER, FROZEN, SPATIAL),
            *(
                Comparison(R_SC_RLA, other, measure)
                for measure, others in (
                    (SPATIAL, (FROZEN, RLA, SC_RLA)),
                    (REGION, (FROZEN, RLA, SC_RLA)),
                )
                for other in others
            ),
        ),
        (
            # No rival on both sides: no text can read the Refiner better than CLIP.
            Comparison(R_SC_RLA, REFINER, SPATIAL),
            *_spatial(REFINER, FROZEN),
            *_spatial(R_SC_RLA, RLA),
            *_spatial(R_SC_RLA, SC_RLA),
        ),
    ),
    Claim(
        'C5',
        'averaging over contexts improves spatial quality with their number',
        (Comparison(MANY_CONTEXTS, ONE_CONTEXT, SPATIAL),),
        (
            Comparison(MANY_CONTEXTS, ONE_CONTEXT, 'knn'),
            Comparison(MANY_CONTEXTS, ALONE, SPATIAL),
            Comparison(MANY_CONTEXTS, ALONE, 'knn'),
        ),
    ),
)


def judge(rows: Rows, claims: Sequence[Claim] = CLAIMS) -> list[Judgement]:
    """Decide every claim from the numbers.

    Args:
        rows: Scores of all rows that the claims name.
        claims: The claims.
    """
    judgements = []
    for claim in claims:
        deciding = tuple(_judge_one(one, rows) for one in claim.deciding)
        beside = tuple(_judge_one(one, rows) for one in claim.beside)
        verdicts = {verdict for _, _, verdict in deciding}
        verdict = next(one for one in (FAILS, NOISE, HOLDS) if one in verdicts)
        judgements.append(Judgement(claim, verdict, deciding, beside))
    return judgements


def _judge_one(comparison: Comparison, rows: Rows) -> tuple[Comparison, Interval, str]:
    interval = comparison.difference(rows)
    return comparison, interval, comparison.judge(interval)
