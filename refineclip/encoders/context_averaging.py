"""Training-free refining: average an image's dense tokens over many contexts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .towers.dense_vit import DenseViT


@torch.no_grad()
def context_averaged_map(
    visual: DenseViT,
    target: Tensor,
    contexts: Tensor,
    mode: str = 'value',
    generator: torch.Generator | None = None,
) -> Tensor:
    """Encode an image beside each of N context images, and average its own tokens.

    Every canvas holds the target and one context side by side, on a random side. What the context
    adds to the target's tokens differs from canvas to canvas and cancels; the target's structure
    stays. The paper's probe uses sampled context images too; this layout is inferred. In this
    project's pilot the quality rises with N but does not beat the image encoded alone.

    Args:
        visual: The encoder.
        target: Normalised images (B, 3, H, W).
        contexts: Normalised context images (N, 3, H, W), shared by the batch; N >= 1.
        mode: Dense mode.
        generator: CPU generator of the random sides.

    Returns:
        (B, D, h, w), mean of L2-normalised tokens, L2-normalised again.

    Raises:
        ValueError: If ``contexts`` is empty or of another size than ``target``.
    """
    if len(contexts) == 0 or contexts.shape[1:] != target.shape[1:]:
        raise ValueError(
            'expected at least one context image of the size of the target '
            f'{tuple(target.shape[1:])}, got {tuple(contexts.shape)}'
        )
    width = target.shape[-1] // visual.patch_size
    total = torch.zeros((), device=target.device)
    for context in contexts:
        context = context.expand_as(target)
        target_first = bool(torch.rand((), generator=generator) < 0.5)
        canvas = torch.cat([target, context] if target_first else [context, target], dim=-1)
        dense = visual.dense(canvas, mode, normalize=True)
        total = total + (dense[..., :width] if target_first else dense[..., width:])
    return F.normalize(total, dim=1)
