"""Add the SCD term to any detector or segmentor that fine-tunes a RefinerCLIP backbone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModule, is_model_wrapper
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn import functional as F

from refineclip.datasets.region_images import build_region_sampler

from ..losses.scd_loss import SCDLoss
from ..processes import mean_over_processes
from ..teacher_view import as_seen_by


@HOOKS.register_module()
class SCDHook(Hook):
    """Keep the spatial correlations of a backbone while something else trains it.

    PyTorch forward hooks see what the backbone returns and add ``loss_scd`` to the losses that the
    model returns. All of it happens inside the (wrapped) forward, so DDP, AMP and gradient
    accumulation treat the term as any other loss. Correlations are compared, not features: teacher
    and student maps may differ in channels.

    Args:
        backbone: Attribute path of the :class:`RefinerCLIP` in the model.
        scd: Config of :class:`SCDLoss`; its ``start`` counts iterations of the host's training.
        region_sampler: Config of a region sampler; regions are drawn anew each iteration, on the
            unpadded part of each image.
        teacher: Config of the frozen :class:`RefinerCLIP` to follow, with its Refiner if R-SCD is
            wanted; patch size, width and normalisation may differ, as another tower sees the
            backbone's pixels on the backbone's grid. Default: a frozen copy of the backbone as it
            was built. It sees images normalised as it was trained, whatever the host's
            ``data_preprocessor`` does for the backbone.
        level: Which of the backbone's maps is compared.
        seed: Seed of the region draws.

    Raises:
        TypeError: If the model has no such backbone, or the backbone is frozen.
    """

    def __init__(
        self,
        backbone: str = 'backbone',
        scd: dict | None = None,
        region_sampler: dict | None = None,
        teacher: dict | None = None,
        level: int = -1,
        seed: int = 0,
    ) -> None:
        self.backbone = backbone
        self.scd: SCDLoss = MODELS.build(scd or dict(type='SCDLoss'))
        self.region_sampler = build_region_sampler(region_sampler or dict(type='GridRegions'))
        if hasattr(self.region_sampler, 'check_images'):
            raise ValueError(
                'SCDHook: expected a sampler that draws regions (GridRegions, RandomCropRegions), '
                f'got {type(self.region_sampler).__name__}: hosts flip and crop, so boxes of a '
                'file do not fit'
            )
        self.teacher_cfg = teacher
        self.level = level
        self.seed = seed
        self.teacher: BaseModule | None = None
        self._seen: tuple[Tensor, Tensor] | None = None
        self._view: dict[str, Any] = {}
        self._host: tuple[Sequence[float], Sequence[float]] | None = None

    def before_run(self, runner: Runner) -> None:
        """Build the teacher before a checkpoint is loaded: it is the backbone's starting point."""
        student = self._find_backbone(runner)
        if self.teacher_cfg is None:
            teacher = copy.deepcopy(student)
            teacher.frozen = True
        else:
            teacher = MODELS.build({**self.teacher_cfg, 'frozen': True})
        teacher.init_weights()
        self.teacher = teacher.requires_grad_(False).eval().to(next(student.parameters()).device)

    def before_train(self, runner: Runner) -> None:
        """Attach to the backbone and to the model."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._host = _normalisation(model)
        self._handles = [
            self._find_backbone(runner).register_forward_hook(self._remember),
            model.register_forward_hook(self._add_loss, with_kwargs=True),
        ]

    def after_train(self, runner: Runner) -> None:
        """Detach."""
        for handle in self._handles:
            handle.remove()

    def _find_backbone(self, runner: Runner) -> BaseModule:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        try:
            backbone = model.get_submodule(self.backbone)
        except AttributeError as error:
            raise TypeError(
                f'SCDHook: expected a backbone at {self.backbone!r}, got a '
                f'{type(model).__name__} with {[name for name, _ in model.named_children()]}'
            ) from error
        if getattr(backbone, 'frozen', True):
            raise TypeError(
                'SCDHook: expected a RefinerCLIP backbone with frozen=False, got '
                f'{type(backbone).__name__} with frozen={getattr(backbone, "frozen", None)}; a '
                'frozen backbone has nothing to keep'
            )
        return backbone

    def _remember(self, module: nn.Module, args: tuple, output: tuple[Tensor, ...]) -> None:
        if module.training and torch.is_grad_enabled():
            self._seen = (args[0], output[self.level])
            own: Any = module.visual
            mean, std = self._host or (own.image_mean, own.image_std)
            self._view = dict(mean=mean, std=std, patch_size=own.patch_size)

    def _add_loss(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        seen, self._seen = self._seen, None
        if seen is None or kwargs.get('mode') != 'loss':
            return None
        images, student_map = seen
        if not self.scd.started:
            return {**output, **self.scd.logged(None, images.device)}
        assert self.teacher is not None
        with torch.no_grad():
            view = as_seen_by(self.teacher.visual, images, **self._view)
            teacher_map = self.teacher(view)[self.level]
        boxes = self._draw_boxes(images, kwargs.get('data_samples'))
        loss = self.scd.of_maps(
            student_map,
            teacher_map,
            boxes,
            avg_factor=mean_over_processes(len(boxes), boxes.device),
        )
        return {**output, **self.scd.logged(loss, images.device)}

    def _draw_boxes(self, images: Tensor, data_samples: list | None) -> Tensor:
        iteration = MessageHub.get_current_instance().get_info('iter', 0)
        height, width = images.shape[-2:]
        rows = []
        for index in range(len(images)):
            shape = (height, width)
            if data_samples is not None:
                shape = data_samples[index].metainfo.get('img_shape', shape)[:2]
            # In the batch of all processes, which samplers deal out in turn: none draws the boxes
            # of another, and together they draw those of one process.
            place = index * get_world_size() + get_rank()
            generator = np.random.default_rng((self.seed, iteration, place))
            boxes = torch.from_numpy(self.region_sampler(shape[1], shape[0], generator, None))
            # A host that resizes its input for the backbone (CATSeg) has shapes beyond the map.
            shares = [min(1.0, shape[1] / width), min(1.0, shape[0] / height)]
            boxes = boxes * boxes.new_tensor(shares * 2)
            rows.append(F.pad(boxes, (1, 0), value=index))
        return torch.cat(rows).to(images.device)


def _normalisation(model: nn.Module) -> tuple[list[float], list[float]] | None:
    """Mean and deviation in [0, 1] that a host normalises by, None where it does not say."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    if not (isinstance(mean, Tensor) and isinstance(std, Tensor)):
        return None
    return (mean.flatten() / 255).tolist(), (std.flatten() / 255).tolist()
