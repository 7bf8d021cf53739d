"""Stage 3: cluster centres on the trained head, and the segmentation itself."""

from __future__ import annotations

import torch
from mmengine.dist import broadcast
from mmengine.registry import MODELS
from sklearn.cluster import kmeans_plusplus
from torch import Tensor, nn
from torch.nn import functional as F

from .codebook import ConceptCodebook
from .modularity import modularity_loss
from .stage import CauseStage, Grid

PROBE_LOSSES = ('cosine', 'modularity')


@MODELS.register_module()
class CauseClusterProbe(CauseStage):
    """Learn one centre per cluster on frozen embeddings, and assign every pixel to the nearest.

    Embeddings are those of stage 2's head, or the frozen tokens themselves with ``head=None``: the
    baseline that every unsupervised head has to beat.

    Paper: Causal Unsupervised Semantic Segmentation, arXiv 2310.07379. Known are 5 epochs of
    fine-tuning a cluster probe; its loss and start are not stated in what we could read.

    Args:
        encoder: See :class:`CauseStage`; the one of stages 1 and 2.
        head: Config of the head as in stage 2, or ``None``.
        checkpoint: What stage 2 saved; needed for training with a head.
        num_concepts: As in stages 1 and 2.
        num_clusters: Centres; the number of classes of the data set.
        loss: ``'cosine'`` pulls the nearest centre to each embedding (spherical k-means by
            gradient), ``'modularity'`` is stage 1's objective on the embeddings.
        temperature: tau of the modularity loss.
        data_preprocessor: See :class:`CauseStage`.
        cache_dir: See :class:`CauseStage`.
        init_cfg: As for mmengine's models.

    Raises:
        ValueError: On an unknown ``loss`` or fewer than two clusters.
    """

    started: Tensor

    def __init__(
        self,
        encoder: dict,
        head: dict | None,
        checkpoint: str | None = None,
        num_concepts: int = 2048,
        num_clusters: int = 27,
        loss: str = 'cosine',
        temperature: float = 0.1,
        data_preprocessor: dict | None = None,
        cache_dir: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(encoder, data_preprocessor, cache_dir, init_cfg)
        if loss not in PROBE_LOSSES:
            raise ValueError(f'loss: expected one of {PROBE_LOSSES}, got {loss!r}')
        if num_clusters < 2:
            raise ValueError(f'num_clusters: expected 2 or more, got {num_clusters}')
        self.checkpoint = checkpoint
        self.codebook: ConceptCodebook | None = None
        self.head: nn.Module | None = None
        dims = self.token_dims
        if head is not None:
            self.codebook = ConceptCodebook(num_concepts, dims).requires_grad_(False)
            built = MODELS.build({**head, 'in_channels': dims})
            self.head = built.requires_grad_(False)
            dims = built.embed_dims
        self.centres = nn.Parameter(F.normalize(torch.randn(num_clusters, dims), dim=-1))
        # Saved, so that a resumed run keeps its centres.
        self.register_buffer('started', torch.tensor(False))
        self.probe_loss = loss
        self.temperature = temperature

    def init_weights(self) -> None:
        """Initialise the encoder, then load the codebook and the student's head of stage 2."""
        super().init_weights()
        if self.head is not None and self.codebook is not None:
            parts = {'codebook': self.codebook, 'student.head': self.head}
            self.load_parts(self.checkpoint, parts)

    def train(self, mode: bool = True) -> CauseClusterProbe:
        """Set the mode; the head stays in eval."""
        super().train(mode)
        if self.head is not None:
            self.head.eval()
        return self

    @torch.no_grad()
    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings (B, N, E), L2-normalised, of frozen tokens (B, N, D)."""
        if self.head is None or self.codebook is None:
            return tokens
        concepts = self.codebook.lookup(self.codebook.assign(tokens))
        return F.normalize(self.head(tokens, concepts).float(), dim=-1)

    def loss(self, tokens: Tensor) -> dict[str, Tensor]:
        """Loss of the centres; the first batch of a fresh run also places them (k-means++)."""
        points = self.embed(tokens)
        if not self.started:
            self._place_centres(points.flatten(0, 1))
        if self.probe_loss == 'modularity':
            return {'loss_cluster': modularity_loss(points, self.centres, self.temperature)}
        nearest = (points @ F.normalize(self.centres, dim=-1).T).amax(dim=-1)
        return {'loss_cluster': 1 - nearest.mean()}

    def _place_centres(self, points: Tensor) -> None:
        if len(points) < len(self.centres):
            raise ValueError(
                f'expected at least {len(self.centres)} tokens in a batch to place as many '
                f'centres, got {len(points)}; use larger images or batches, or fewer clusters'
            )
        seed = torch.initial_seed() % 2**32
        centres, _ = kmeans_plusplus(points.cpu().numpy(), len(self.centres), random_state=seed)
        self.set_centres(torch.from_numpy(centres))
        # Each process saw a batch of its own, and DDP only keeps equal what starts equal.
        broadcast(self.centres.data)

    @torch.no_grad()
    def set_centres(self, centres: Tensor) -> None:
        """Take over centres (num_clusters, E) found elsewhere."""
        self.centres.copy_(centres)
        self.started.fill_(True)

    def predict(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Segment normalised images (B, 3, H, W).

        Returns:
            One dict per image with ``clusters`` (H, W) int16, on the CPU.
        """
        tokens, grid = self.tokens(images)
        scores = self.cluster_scores(tokens, grid, (images.shape[2], images.shape[3]))
        return [{'clusters': one} for one in scores.argmax(dim=1).to(torch.int16).cpu()]

    def cluster_scores(self, tokens: Tensor, grid: Grid, size: tuple[int, int]) -> Tensor:
        """Cosine to every centre (B, num_clusters, H, W), embeddings resized bilinearly."""
        points = self.embed(tokens).transpose(1, 2).unflatten(2, grid)
        # Products with the centres commute with the resize, and are fewer channels to resize.
        scores = torch.einsum('behw,ke->bkhw', points, F.normalize(self.centres, dim=-1))
        return F.interpolate(scores, size=size, mode='bilinear', align_corners=False)
