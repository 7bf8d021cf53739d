"""Stage 1: the concept codebook by modularity."""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor

from .codebook import ConceptCodebook
from .modularity import modularity_loss
from .stage import CauseStage


@MODELS.register_module()
class CauseCodebookTraining(CauseStage):
    """Learn concepts that maximise the modularity of the images' token graphs.

    Paper: Causal Unsupervised Semantic Segmentation, arXiv 2310.07379. Written from the method's
    description: cosine graphs, cluster assignments by cut cosine, tanh with a temperature.

    Args:
        encoder: See :class:`CauseStage`.
        num_concepts: Entries K; 2,048 in CAUSE's published defaults.
        temperature: tau of the tanh. Not stated in what we could read; .1 is ours.
        data_preprocessor: See :class:`CauseStage`.
        cache_dir: See :class:`CauseStage`.
        init_cfg: As for mmengine's models.
    """

    def __init__(
        self,
        encoder: dict,
        num_concepts: int = 2048,
        temperature: float = 0.1,
        data_preprocessor: dict | None = None,
        cache_dir: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(encoder, data_preprocessor, cache_dir, init_cfg)
        self.codebook = ConceptCodebook(num_concepts, self.token_dims)
        self.temperature = temperature

    def loss(self, tokens: Tensor) -> dict[str, Tensor]:
        """Negative modularity, and how many concepts the batch's tokens use."""
        concepts = self.codebook.concepts
        loss = modularity_loss(tokens, concepts, self.temperature)
        used = self.codebook.assign(tokens).unique().numel()
        return {'loss_modularity': loss, 'concepts_used': tokens.new_tensor(float(used))}
