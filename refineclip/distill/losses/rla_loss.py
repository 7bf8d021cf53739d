"""Region-language alignment losses: name regions, through crops or through nouns."""

from __future__ import annotations

import torch
from mmengine.dist import broadcast
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from refineclip.encoders.text.embedder import load_text_embeddings

from ..processes import gather_rows


@MODELS.register_module()
class CLIPSelfLoss(nn.Module):
    """``1 - cos(student RoI embedding, frozen teacher's crop embedding)``, mean over regions.

    Paper: CLIPSelf, arXiv 2310.01403; used as the RLA of R-SC-CLIPSelf.

    Args:
        loss_weight: 1, as published.
    """

    needs_crops = True

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self, student: Tensor, teacher: Tensor, avg_factor: float | Tensor | None = None
    ) -> Tensor:
        """Compute the weighted loss.

        Args:
            student: Student RoI embeddings (R, D), any norm.
            teacher: Teacher crop embeddings (R, D), any norm; receives no gradient.
            avg_factor: Divisor of the sum over regions; default R.

        Returns:
            Scalar, float32. Zero (connected to the graph) when R is 0.
        """
        if student.shape[0] == 0:
            return student.sum() * 0.0
        cosine = F.cosine_similarity(student.float(), teacher.detach().float(), dim=-1)
        divisor = len(cosine) if avg_factor is None else avg_factor
        return self.loss_weight * (1 - cosine).sum() / divisor


@MODELS.register_module()
class RegionTextLoss(nn.Module):
    """Federated binary cross-entropy of regions over nouns (the RegionCLIP-style baseline).

    Each region is scored against the nouns that occur in the batch and a random draw of others, up
    to ``num_sampled`` nouns; the binary cross-entropy is summed over nouns and averaged over
    regions. That the paper's RegionText is this exact loss is inferred, not stated.

    Args:
        text_embeddings: File of the noun embeddings (``.npy``, ``.pt``, ``.safetensors``), or the
            tensor (C, D) itself; frozen and L2-normalised here.
        num_sampled: Nouns per step, 100 as in the RegionCLIP-style baseline that CLIPSelf compares.
        logit_scale: Factor on the cosine, no gradient; 100 is what the released CLIPs converged to.
        loss_weight: Not stated in the paper; 1.
    """

    needs_crops = False
    text: Tensor

    def __init__(
        self,
        text_embeddings: str | Tensor,
        num_sampled: int = 100,
        logit_scale: float = 100.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(text_embeddings, Tensor):
            text_embeddings = load_text_embeddings(text_embeddings)[0]
        text = F.normalize(text_embeddings.float(), dim=-1)
        # Not persistent: the file is part of the config, not of the trained state.
        self.register_buffer('text', text, persistent=False)
        self.num_sampled = num_sampled
        self.logit_scale = logit_scale
        self.loss_weight = loss_weight

    def sample_nouns(self, labels: Tensor) -> Tensor:
        """Indices of the nouns that any process sees, then random others, at most num_sampled.

        Collective: all processes score the same nouns.

        Raises:
            ValueError: A label has no text embedding.
        """
        present = torch.cat(gather_rows(labels)).unique()
        if len(present) and int(present[-1]) >= len(self.text):
            raise ValueError(
                f'expected labels below {len(self.text)}, the number of text embeddings, got '
                f'{int(present[-1])}: the embeddings are of another vocabulary'
            )
        absent = torch.ones(len(self.text), dtype=torch.bool)
        absent[present.cpu()] = False
        others = absent.nonzero().flatten()
        # Drawn on the CPU: DistillationModel seeds that generator per iteration.
        others = others[torch.randperm(len(others))[: max(0, self.num_sampled - len(present))]]
        nouns = torch.cat([present, others.to(present.device)])
        broadcast(nouns)
        return nouns

    def forward(
        self, student: Tensor, labels: Tensor, avg_factor: float | Tensor | None = None
    ) -> Tensor:
        """Compute the weighted loss.

        Args:
            student: Student RoI embeddings (R, D), any norm.
            labels: Noun index per region (R,), in [0, C).
            avg_factor: Divisor of the sum over regions; default R.

        Returns:
            Scalar, float32. Zero (connected to the graph) when R is 0.
        """
        nouns = self.sample_nouns(labels)
        if student.shape[0] == 0:
            return student.sum() * 0.0
        with torch.autocast(student.device.type, enabled=False):
            cosine = F.normalize(student.float(), dim=-1) @ self.text[nouns].T
            target = (labels[:, None] == nouns[None]).float()
            total = F.binary_cross_entropy_with_logits(
                self.logit_scale * cosine, target, reduction='sum'
            )
        return self.loss_weight * total / (len(student) if avg_factor is None else avg_factor)
