"""The best text of every pixel, kept while texts come chunk by chunk."""

from __future__ import annotations

import torch
from torch import Tensor

from .queries import Queries


class PixelScores:
    """Running maximum and softmax denominator of Q texts at every pixel.

    Holds three maps instead of Q: what was best, how good it was, and the logarithm of the sum of
    exponentials. Equal to the argmax and softmax over all texts at once.

    Args:
        queries: The texts and their classes.
        size: Height and width in pixels.
        keep_logits: Also keep the C classes' scores, each the best of its texts.
        device: Where the maps are.

    Attributes:
        logits: (C, H, W); -inf for a class without text. None unless they are kept.
    """

    logits: Tensor | None

    def __init__(
        self,
        queries: Queries,
        size: tuple[int, ...],
        keep_logits: bool = False,
        device: torch.device | str = 'cpu',
    ) -> None:
        self.owner = torch.tensor(queries.owner, device=device)
        self.background = queries.background
        self.best = torch.full(size, -torch.inf, device=device)
        self.total = torch.full(size, -torch.inf, device=device)
        self.label = torch.zeros(size, dtype=torch.int64, device=device)
        self.logits = None
        if keep_logits:
            shape = (queries.num_classes, *size)
            self.logits = torch.full(shape, -torch.inf, device=device)

    def update(self, scores: Tensor, start: int) -> None:
        """Take in scores (q, H, W) of the texts from ``start`` on."""
        owner = self.owner[start : start + len(scores)]
        value, index = scores.max(0)
        better = value > self.best
        self.label = torch.where(better, owner[index], self.label)
        self.best = torch.where(better, value, self.best)
        if self.background is not None:
            self.total = torch.logaddexp(self.total, scores.logsumexp(0))
        if self.logits is not None:
            index = owner[:, None, None].expand_as(scores)
            self.logits.scatter_reduce_(0, index, scores, 'amax')

    def labels(self, prob_thd: float = 0.0, area_thd: float = 0.0) -> Tensor:
        """Class indices (H, W), background where the best text is not likely enough.

        Args:
            prob_thd: Probability of the best text among all texts.
            area_thd: Classes whose area is no larger than this share of the area of all classes
                but the background are not in the image: their pixels get the best of the classes
                that are left, background included. Needs the logits.
        """
        if self.background is None:
            return self.label
        best, label = self.best, self.label
        if area_thd > 0:
            best, label = self._without_small(area_thd)
        if prob_thd > 0:
            label = label.masked_fill((best - self.total).exp() < prob_thd, self.background)
        return label

    def _without_small(self, area_thd: float) -> tuple[Tensor, Tensor]:
        """Score and class of each pixel among the classes that are large enough."""
        # Kept by whoever sets the threshold.
        assert self.logits is not None
        assert self.background is not None
        area = self.label.flatten().bincount(minlength=len(self.logits))
        area[self.background] = 0
        small = area <= area_thd * area.sum()
        small[self.background] = False
        best, label = self.logits.masked_fill(small[:, None, None], -torch.inf).max(0)
        # A background without a text has no score; nothing but it is left.
        return best, label.masked_fill(best == -torch.inf, self.background)
