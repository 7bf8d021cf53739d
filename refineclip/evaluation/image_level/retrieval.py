"""Retrieval between whole images and captions: what refinement must not cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from refineclip.encoders.text.embedder import TextCLIP
from refineclip.encoders.text.prompt_encoding import encode_prompts

from ..bootstrap import ImageScores

_CHUNK = 512  # queries per matrix of similarities: 50 MB with COCO's 25 000 captions


@torch.inference_mode()
def embed_captions(
    clip: TextCLIP,
    captions: Sequence[str],
    batch_size: int = 256,
) -> Tensor:
    """Embed captions word for word, without any template.

    Args:
        clip: Model with a text tower, on any device.
        captions: M sentences; what exceeds the tower's context is cut off, as the tokenizer does.
        batch_size: Captions per forward pass.

    Returns:
        (M, D) float32 on the CPU, L2-normalised.

    Raises:
        ValueError: If the model has no text tower.
    """
    text = clip.text
    if text is None:
        raise ValueError('expected a model with a text tower, got a vision-only one; use a CLIP')
    device = next(text.parameters()).device
    was_training = text.training
    text.eval()
    rows = []
    for first in range(0, len(captions), batch_size):
        tokens = clip.tokenizer(list(captions[first : first + batch_size])).to(device)
        rows.append(F.normalize(encode_prompts(text, tokens).float(), dim=1).cpu())
    text.train(was_training)
    return torch.cat(rows)


def retrieval_recall(
    images: Tensor,
    captions: Tensor,
    owner: NDArray[np.int64],
    words: Sequence[str] | None = None,
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, ImageScores]:
    """Recall at k of captions by images and of images by captions.

    Every image has one or more captions, their number may differ. An image is right at k if *any*
    of its captions is among the k most similar ones; a caption if its image is. Of equal
    similarities the right answer comes last, so that collapsed features do not score.

    Args:
        images: (N, D) embeddings, any norm.
        captions: (M, D) embeddings, any norm.
        owner: (M,) index of the image that each caption describes.
        words: The M captions themselves: then captions of the same words are right for every image
            that has one of them, since no encoder could tell them apart. None keeps to owners, as
            published recalls do.
        ks: Values of k; one that no answer could miss is left out.

    Returns:
        ``image_to_text_recall{k}``, a share of images, and ``text_to_image_recall{k}``, a share of
        captions. Resampling draws queries by image and leaves the candidates as they are.

    Raises:
        ValueError: If shapes do not fit, an image has no caption, or a value is not finite.
    """
    _check(images, captions, owner)
    images = F.normalize(images.float(), dim=1)
    captions = F.normalize(captions.float(), dim=1)
    owners = torch.from_numpy(owner)
    num_images, num_captions = len(images), len(captions)
    wording = np.arange(num_captions) if words is None else np.unique(words, return_inverse=True)[1]
    wordings = torch.from_numpy(wording)
    of_image = _ranks_of_images(images, captions, owners, wordings)
    of_caption = _ranks_of_captions(images, captions, owners, wordings)
    scores: dict[str, ImageScores] = {}
    for k in ks:
        if k < num_captions:
            hits = (of_image < k).astype(np.float64)
            scores[f'image_to_text_recall{k}'] = ImageScores(hits, np.ones(num_images))
    for k in ks:
        if k < num_images:
            scores[f'text_to_image_recall{k}'] = ImageScores.from_hits(
                of_caption < k, owner, num_images
            )
    return scores


def _ranks_of_images(
    images: Tensor, captions: Tensor, owners: Tensor, wordings: Tensor
) -> NDArray[np.int64]:
    """Wrong captions at or before the best right one of every image, (N,)."""
    ranks = []
    for first in range(0, len(images), _CHUNK):
        part = images[first : first + _CHUNK]
        own = owners[None] == torch.arange(first, first + len(part))[:, None]
        row, caption = own.nonzero(as_tuple=True)
        has = torch.zeros(len(part), int(wordings.max()) + 1, dtype=torch.bool)
        has[row, wordings[caption]] = True
        ranks.append(_wrong_before(part @ captions.T, has[:, wordings]))
    return torch.cat(ranks).numpy()


def _ranks_of_captions(
    images: Tensor, captions: Tensor, owners: Tensor, wordings: Tensor
) -> NDArray[np.int64]:
    """Wrong images at or before the best right one of every caption, (M,)."""
    ranks = []
    for part, own in zip(captions.split(_CHUNK), wordings.split(_CHUNK), strict=True):
        row, twin = (own[:, None] == wordings[None]).nonzero(as_tuple=True)
        right = torch.zeros(len(part), len(images), dtype=torch.bool)
        right[row, owners[twin]] = True
        ranks.append(_wrong_before(part @ images.T, right))
    return torch.cat(ranks).numpy()


def _wrong_before(similarity: Tensor, right: Tensor) -> Tensor:
    """Wrong candidates at or before the best right one of every query, of (Q, K) each; (Q,)."""
    best = similarity.masked_fill(~right, -torch.inf).max(dim=1, keepdim=True).values
    return ((similarity >= best) & ~right).sum(dim=1)


def _check(images: Tensor, captions: Tensor, owner: NDArray[np.int64]) -> None:
    if images.ndim != 2 or captions.ndim != 2 or images.shape[1] != captions.shape[1]:
        raise ValueError(
            'expected image and caption embeddings of one width, (N, D) and (M, D), got '
            f'{tuple(images.shape)} and {tuple(captions.shape)}'
        )
    if len(captions) != len(owner):
        raise ValueError(
            f'expected the image of each caption, got {len(owner)} for {len(captions)} captions'
        )
    if len(images) < 2:
        raise ValueError(f'expected two or more images to choose from, got {len(images)}')
    if len(owner) and not 0 <= owner.min() <= owner.max() < len(images):
        raise ValueError(
            f'expected captions of images in [0, {len(images)}), got {owner.min()}..{owner.max()}'
        )
    without = len(images) - len(np.unique(owner))
    if without:
        raise ValueError(
            f'expected a caption for each of the {len(images)} images, got {without} images '
            'without; leave them out'
        )
    for name, value in (('image', images), ('caption', captions)):
        if not value.isfinite().all():
            raise ValueError(
                f'expected finite {name} embeddings, got NaN or infinity; check the weights'
            )
