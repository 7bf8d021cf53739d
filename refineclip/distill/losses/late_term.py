"""A weighted term of a training that may set in late."""

from __future__ import annotations

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn


class LateTerm(nn.Module):
    """Base of losses between token correlations: their weight, and when they set in.

    Args:
        loss_weight: Factor on the loss.
        start: Share of the training's iterations after which the term sets in; 0 from the first on.

    Raises:
        ValueError: On a ``start`` outside [0, 1).
    """

    def __init__(self, loss_weight: float, start: float = 0.0) -> None:
        super().__init__()
        if not 0 <= start < 1:
            raise ValueError(f'start: expected a share of the training in [0, 1), got {start}')
        self.loss_weight = loss_weight
        self.start = start

    @property
    def started(self) -> bool:
        """Whether the running training is past ``start``; True where none runs."""
        hub = MessageHub.get_current_instance()
        length = hub.get_info('max_iters')
        if self.start == 0 or length is None:
            return True
        return hub.get_info('iter', 0) > self.start * length

    def logged(self, loss: Tensor | None, device: torch.device) -> dict[str, Tensor]:
        """``loss_scd`` and, with a late start, the weight in force; zeros for None, before it."""
        zero = torch.zeros((), device=device)
        logs = {'loss_scd': zero if loss is None else loss}
        if self.start > 0:
            logs['scd_weight'] = zero if loss is None else zero + self.loss_weight
        return logs
