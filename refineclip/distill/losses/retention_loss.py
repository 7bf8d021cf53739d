"""Image-level retention: what a whole photo says should stay what the original encoder says."""

from __future__ import annotations

from mmengine.registry import MODELS

from .rla_loss import CLIPSelfLoss


@MODELS.register_module()
class RetentionLoss(CLIPSelfLoss):
    """:class:`CLIPSelfLoss` on image embeddings: student's (B, D) against the frozen teacher's.

    Not in the paper. Refinement lowers zero-shot accuracy of whole images; CLIPSelf's author
    suggests an image-level term against it (github.com/wusize/CLIPSelf, issue 11). Student and
    teacher start equal, so value and gradient are zero at the start: the term only pulls back what
    the others move.

    Args:
        loss_weight: Not stated in the paper, nor in the suggestion; 1.
    """
