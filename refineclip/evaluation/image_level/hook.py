"""The image level of a student while it is refined, beside the metrics of its validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from refineclip.datasets.class_folders import ClassFolders
from refineclip.datasets.coco_captions import CocoCaptions
from refineclip.encoders import build_clip
from refineclip.encoders.text.embedder import TextEmbedder
from refineclip.encoders.text.text_bank import from_first_process

from .embeddings import ImageTransform, embed_images, library_transform
from .retrieval import embed_captions, retrieval_recall
from .zero_shot import zero_shot_accuracy


@HOOKS.register_module()
class ImageLevelHook(Hook):
    """Zero-shot classification and caption retrieval of the student, after every validation.

    A metric sees the dense maps of the validation images; this needs whole images at the native
    size, so it reads its own. Its numbers join those of the validation, under ``image/``: log,
    TensorBoard and ``save_best`` see them. What they mean: docs/evaluation.md.

    Args:
        model: Architecture of the student, whose text tower answers.
        text_pretrained: Weights of that tower.
        image_folder: A folder in ImageNet's layout to classify.
        class_names: See :class:`~refineclip.datasets.class_folders.ClassFolders`.
        templates: See :class:`~refineclip.encoders.text.TextEmbedder`.
        captions: A COCO captions file to retrieve from.
        image_root: Folder of its images.
        limit: Take every n-th file, so that so many remain; None takes all.
        batch_size: Images per forward pass.
        num_workers: Processes that read files.
        encoder: Attribute of the model that holds the encoder.

    Raises:
        ValueError: If there is neither a folder nor captions.
        FileNotFoundError: If one of them does not exist.
    """

    priority = 'HIGHEST'  # before RuntimeInfoHook, from which LoggerHook takes the numbers

    def __init__(
        self,
        model: str | dict[str, Any],
        text_pretrained: str | None,
        image_folder: str | Path | None = None,
        class_names: str | Path | None = None,
        templates: str | Sequence[str] = 'imagenet',
        captions: str | Path | None = None,
        image_root: str | Path | None = None,
        limit: int | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        encoder: str = 'student',
    ) -> None:
        if image_folder is None and (captions is None or image_root is None):
            raise ValueError(
                'ImageLevelHook: expected image_folder, or captions with image_root, got neither'
            )
        self.model, self.text_pretrained, self.templates = model, text_pretrained, templates
        self.folders = None if image_folder is None else ClassFolders(image_folder, class_names)
        self.captions = (
            None if captions is None or image_root is None else CocoCaptions(captions, image_root)
        )
        self.limit, self.batch_size, self.num_workers = limit, batch_size, num_workers
        self.encoder = encoder
        self._texts: dict[str, Tensor] = {}
        self._transform: ImageTransform | None = None

    def before_run(self, runner: Runner) -> None:
        """Ask the text tower once, then let it go.

        Raises:
            AttributeError: If the model has no such encoder.
        """
        encoder = self._encoder(runner)
        self._transform = library_transform(encoder.visual, self.model, self.text_pretrained)
        device = next(encoder.parameters()).device
        self._texts = from_first_process(lambda: self._embed_texts(device))

    def _embed_texts(self, device: torch.device) -> dict[str, Tensor]:
        clip = build_clip(self.model, self.text_pretrained).eval().to(device)
        texts = {}
        if self.folders is not None:
            texts['names'] = TextEmbedder(clip, self.templates).embed(self.folders.names)
        if self.captions is not None:
            texts['captions'] = embed_captions(clip, self.captions.captions)
        return texts

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Measure, and add to the metrics."""
        if metrics is not None:
            metrics.update(self.measure(runner))

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Measure, and add to the metrics."""
        self.after_val_epoch(runner, metrics)

    def measure(self, runner: Runner) -> dict[str, float]:
        """Accuracies and recalls of the student as it is, by name."""
        encoder = self._encoder(runner)
        was_training = encoder.training
        encoder.eval()
        found: dict[str, Any] = {}
        if self.folders is not None:
            features, kept = self._embed(encoder, self.folders.paths)
            labels = self.folders.labels[kept]
            found |= zero_shot_accuracy(features, labels, self._texts['names']).scores
        if self.captions is not None:
            features, kept = self._embed(encoder, self.captions.paths)
            chosen, owner = self.captions.select(kept)
            words = [self.captions.captions[row] for row in chosen]
            found |= retrieval_recall(features, self._texts['captions'][chosen], owner, words)
        encoder.train(was_training)
        return {f'image/{name}': score.value for name, score in found.items()}

    def _encoder(self, runner: Runner) -> Any:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, self.encoder):
            raise AttributeError(
                f'ImageLevelHook: expected a model with an encoder {self.encoder!r}, got '
                f'{type(model).__name__} without; name it with encoder=...'
            )
        return getattr(model, self.encoder)

    def _embed(self, encoder: Any, paths: list[Path]) -> tuple[Tensor, Any]:
        """Embeddings of the files that count, and their indices among all."""
        step = 1 if self.limit is None else max(1, -(-len(paths) // self.limit))
        assert self._transform is not None  # set before the run
        embedded = embed_images(
            {'student': encoder},
            paths[::step],
            self._transform,
            self.batch_size,
            self.num_workers,
            next(encoder.parameters()).device,
        )
        return embedded.features['student'], embedded.kept * step
