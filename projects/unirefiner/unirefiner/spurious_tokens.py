"""Which tokens of a frozen teacher say nothing about their place.

Fixed patterns look alike in unrelated images, global proxies like their whole image: both are
similar to tokens that show something else. Tokens whose attention is overrun by their neighbours,
the third kind of the paper, are not looked for here.
"""

from __future__ import annotations

import torch
from torch import Tensor

RULES = ('cosine', 'deviations')
# Share of the tokens of a crop that registers are drawn to; as UniRefiner's published code.
SPURIOUS_SHARE = 0.4


def highest_cosine(tokens: Tensor, others: Tensor) -> Tensor:
    """Highest cosine (R, L) of each of R x L tokens (R, L, D) to others (R, M, D), all unit."""
    return (tokens @ others.transpose(1, 2)).amax(dim=-1)


def most_similar(tokens: Tensor, others: Tensor) -> Tensor:
    """Of others (R, M, D), the one most similar to each of the tokens (R, L, D): (R, L, D)."""
    index = (tokens @ others.transpose(1, 2)).argmax(dim=-1, keepdim=True)
    return others.gather(1, index.expand(-1, -1, others.shape[-1]))


def stays_below(score: Tensor, threshold: float, rule: str) -> Tensor:
    """Whether each of the scores (R, L) is below a threshold, (R, L) bool.

    Args:
        score: Highest cosines of a crop's tokens.
        threshold: A cosine, or so many standard deviations above the mean of the crop's tokens.
        rule: ``'cosine'`` or ``'deviations'``.
    """
    if rule == 'cosine':
        return score < threshold
    return score < score.mean(dim=1, keepdim=True) + threshold * score.std(dim=1, keepdim=True)


def split_tokens(
    tokens: Tensor, unrelated: Tensor, background: Tensor, threshold: float, rule: str
) -> tuple[Tensor, Tensor]:
    """Tell a crop's tokens that may be learnt from, and give those that may not.

    Args:
        tokens: (R, L, D) teacher tokens of crops, unit length.
        unrelated: (R, M, D) tokens of another image.
        background: (R, N, D) tokens of what stands beside each crop in its canvas.
        threshold: From where on a token is spurious, see :func:`stays_below`.
        rule: See there.

    Returns:
        ``clean`` (R, L) bool, and the spurious tokens (R, S, D): of either comparison the
        :data:`SPURIOUS_SHARE` most similar ones, whatever the threshold.
    """
    scores = [highest_cosine(tokens, others) for others in (unrelated, background)]
    clean = torch.stack([stays_below(score, threshold, rule) for score in scores]).all(dim=0)
    count = max(1, int(SPURIOUS_SHARE * tokens.shape[1]))
    index = torch.cat([score.topk(count, dim=1).indices for score in scores], dim=1)
    return clean, tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
