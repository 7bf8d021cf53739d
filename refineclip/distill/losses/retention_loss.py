"""Image-level retention: what a whole photo says should stay what the original encoder says."""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class RetentionLoss(nn.Module):
    """``1 - cos(student image embedding, frozen teacher's image embedding)``, mean over images.

    Not in the paper. Refinement lowers zero-shot accuracy of whole images; CLIPSelf's author
    suggests an image-level term against it (github.com/wusize/CLIPSelf, issue 11). Student and
    teacher start equal, so value and gradient are zero at the start: the term only pulls back what
    the others move.

    Args:
        loss_weight: Not stated in the paper, nor in the suggestion; 1.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self, student: Tensor, teacher: Tensor, avg_factor: float | Tensor | None = None
    ) -> Tensor:
        """Compute the weighted loss.

        Args:
            student: Student image embeddings (B, D), any norm.
            teacher: Teacher image embeddings (B, D), any norm; receives no gradient.
            avg_factor: Divisor of the sum over images; default B.

        Returns:
            Scalar, float32. Zero (connected to the graph) when B is 0.
        """
        if student.shape[0] == 0:
            return student.sum() * 0.0
        cosine = F.cosine_similarity(student.float(), teacher.detach().float(), dim=-1)
        divisor = len(cosine) if avg_factor is None else avg_factor
        return self.loss_weight * (1 - cosine).sum() / divisor
