"""Stage 2: the segmentation head by concept-wise self-supervision."""

from __future__ import annotations

import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS
from torch import Tensor, nn

from refineclip.distill.distillation_model import draws_of_iteration

from .codebook import ConceptCodebook
from .concept_bank import ConceptBank
from .concept_loss import concept_contrastive_loss
from .stage import CauseStage


class ProjectedHead(nn.Module):
    """A segmentation head and the projection that only its training uses.

    Args:
        head: Config of a segmentation head, without its ``in_channels``.
        in_channels: Channels D of the frozen tokens.
        projection_dims: Channels P of the features that are contrasted.
    """

    def __init__(self, head: dict, in_channels: int, projection_dims: int) -> None:
        super().__init__()
        self.head = MODELS.build({**head, 'in_channels': in_channels})
        self.projection = nn.Linear(self.head.embed_dims, projection_dims)

    def forward(self, tokens: Tensor, concepts: Tensor) -> Tensor:
        """Features (B, N, P) of tokens and their concepts, (B, N, D) each."""
        return self.projection(self.head(tokens, concepts))


@MODELS.register_module()
class CauseFrontDoor(CauseStage):
    """Train a head on frozen tokens and their concepts, the mediator of the front-door adjustment.

    A token's concept is the codebook's nearest entry. Student features of an image are contrasted
    with features of the teacher, an exponential moving average of the head, from the same batch and
    a bank: candidates of near concepts are positives, of far concepts negatives.

    Paper: Causal Unsupervised Semantic Segmentation, arXiv 2310.07379. Known to us are the codebook
    as mediator, the head kinds, the moving average, the bank, 90 and 2,048 channels and 2 epochs.
    Everything else is a key below, with a default of ours unless it says otherwise.

    Args:
        encoder: See :class:`CauseStage`; the one of stage 1.
        head: Config of :class:`CauseTransformerHead` or :class:`CauseMLPHead`.
        checkpoint: What stage 1 saved; needed for training.
        num_concepts: As in stage 1.
        projection_dims: P, 2,048 in CAUSE's published defaults.
        positive_threshold: Concepts whose cosine reaches this are near.
        negative_threshold: Concepts whose cosine is below this are far.
        temperature: tau of the contrast.
        ema_momentum: Share of the student that enters the teacher per step.
        num_anchors: Student tokens per image that enter the loss, drawn at random.
        bank_size: Teacher features kept. Each process keeps its own bank.
        max_per_concept: Features of one concept that enter the bank per batch.
        data_preprocessor: See :class:`CauseStage`.
        cache_dir: See :class:`CauseStage`.
        init_cfg: As for mmengine's models.

    Raises:
        ValueError: If the thresholds overlap.
    """

    def __init__(
        self,
        encoder: dict,
        head: dict,
        checkpoint: str | None = None,
        num_concepts: int = 2048,
        projection_dims: int = 2048,
        positive_threshold: float = 0.3,
        negative_threshold: float = 0.1,
        temperature: float = 0.07,
        ema_momentum: float = 0.01,
        num_anchors: int = 100,
        bank_size: int = 8192,
        max_per_concept: int = 4,
        data_preprocessor: dict | None = None,
        cache_dir: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(encoder, data_preprocessor, cache_dir, init_cfg)
        if negative_threshold > positive_threshold:
            raise ValueError(
                'expected negative_threshold <= positive_threshold, got '
                f'{negative_threshold} and {positive_threshold}'
            )
        self.checkpoint = checkpoint
        self.codebook = ConceptCodebook(num_concepts, self.token_dims).requires_grad_(False)
        self.student = ProjectedHead(head, self.token_dims, projection_dims)
        # Never called through its wrapper, whose step count decides when to copy and when to mix.
        self.teacher = ExponentialMovingAverage(self.student, momentum=ema_momentum)
        self.bank = ConceptBank(bank_size, projection_dims, max_per_concept)
        self.positive_threshold = positive_threshold
        self.negative_threshold = negative_threshold
        self.temperature = temperature
        self.num_anchors = num_anchors

    def init_weights(self) -> None:
        """Initialise the encoder, then load the codebook of stage 1."""
        super().init_weights()
        self.load_parts(self.checkpoint, {'codebook': self.codebook})

    def train(self, mode: bool = True) -> CauseFrontDoor:
        """Set the mode; the teacher stays in eval."""
        super().train(mode)
        self.teacher.eval()
        return self

    def loss(self, tokens: Tensor) -> dict[str, Tensor]:
        """Contrastive loss, and the share of candidates that are positives and negatives."""
        # Here and not after the optimiser's step, so that wrapped models do it too.
        self.teacher.update_parameters(self.student)
        ids = self.codebook.assign(tokens)
        concepts = self.codebook.lookup(ids)
        student = self.student(tokens, concepts)
        with torch.no_grad():
            teacher = self.teacher.module(tokens, concepts).flatten(0, 1)
        with draws_of_iteration():
            anchors, anchor_ids = self._draw_anchors(student, ids)
            past, past_ids = self.bank.content()
            candidates = torch.cat([teacher, past.to(teacher.dtype)])
            candidate_ids = torch.cat([ids.flatten(), past_ids])
            self.bank.push(teacher, ids.flatten())
        similarity = self.codebook.similarity()[anchor_ids][:, candidate_ids]
        loss = concept_contrastive_loss(
            anchors,
            candidates,
            similarity,
            self.positive_threshold,
            self.negative_threshold,
            self.temperature,
        )
        near = (similarity >= self.positive_threshold).float().mean()
        far = (similarity < self.negative_threshold).float().mean()
        return {'loss_concept': loss, 'positive_share': near, 'negative_share': far}

    def _draw_anchors(self, features: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """A random draw of tokens per image: (A, P) features and (A,) concepts."""
        count = min(self.num_anchors, ids.shape[1])
        picks = torch.stack([torch.randperm(ids.shape[1])[:count] for _ in ids]).to(ids.device)
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        return features[rows, picks].flatten(0, 1), ids[rows, picks].flatten()
