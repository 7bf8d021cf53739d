"""What a training step costs, before anything starts: FLOPs, parameters, memory.

The model of a config is built on the meta device, where tensors have shapes and no bytes, and its
own methods are run there: what is counted is what will run. No weight is read or downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from refineclip.datasets.region_images import build_region_sampler
from refineclip.encoders.sources import HF_HUB, LOCAL_DIR, resolve_source
from refineclip.encoders.towers.dense_vit import DenseViT

from .distillation_model import DistillationModel
from .live_memory import LiveMemory, kernels_of_training
from .losses.correlation_loss import CorrelationLoss, correlation_loss
from .losses.scd_loss import scd_loss
from .refiner_training import RefinerTraining
from .region_alignment import RegionAlignment
from .region_batch import RegionBatch
from .roi_ops import pool_regions, pool_tokens

# Height and width of the pictures that regions are drawn in: the most common size of COCO.
PICTURE_SIZE = (480, 640)
STAGES = ('RefinerTraining', 'RegionAlignment')
WEIGHT_KEYS = ('pretrained', 'checkpoint', 'init_cfg', 'text_head', 'cache_dir', 'compile_blocks')
TOWER_KEYS = ('student', 'encoder', 'scd_teacher')


@dataclass(frozen=True)
class Regions:
    """How many regions an image gives.

    Attributes:
        mean: Mean per image, one crop each.
        mean_used: Mean per image that the second term looks at (SCD, or the Refiner's loss).
        source: Where the numbers are from, in words.
    """

    mean: float
    mean_used: float
    source: str


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        weights: Parameters and buffers of everything, frozen or not.
        gradients: Gradients of the trainable parameters.
        optimizer: State of the optimizer.
        activations: Most that a step holds above these at once: images, crops, features of the
            frozen side, what the backward pass needs, and its own intermediates.
        activations_with_cp: The same with ``with_cp=True``.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    activations_with_cp: int


def is_stage(model: dict[str, Any]) -> bool:
    """Whether a model's config is of one of the two stages, or of a method that is made of one."""
    kind = MODELS.get(model['type']) if isinstance(model.get('type'), str) else None
    return kind is not None and issubclass(kind, (RefinerTraining, RegionAlignment))


def build_on_meta(model: dict[str, Any]) -> DistillationModel:
    """Build the model of a config without weights, on the meta device.

    Raises:
        ValueError: The config holds no stage of this package, or a model that only a download
            would describe.
    """
    if not is_stage(model):
        raise ValueError(
            f'expected a config whose model is one of {STAGES}, got {model.get("type")!r}'
        )
    model = without_weights(model)
    with torch.device('meta'):
        rla = model.get('rla') or {}
        if 'text_embeddings' in rla:  # a file of as many rows as there are nouns
            width = MODELS.build(model['student']).embed_dim
            rows = rla.get('num_sampled', 100)
            model = {**model, 'rla': {**rla, 'text_embeddings': torch.ones(rows, width)}}
        return MODELS.build(model).train()


def without_weights(node: Any) -> Any:
    """Copy a config tree with all files and downloads left out, and the architectures kept."""
    if isinstance(node, (list, tuple)):
        return type(node)(map(without_weights, node))
    if not isinstance(node, dict):
        return node
    copy = {key: None if key in WEIGHT_KEYS else without_weights(v) for key, v in node.items()}
    pretrained = node.get('pretrained')
    if isinstance(pretrained, str) and pretrained.startswith(LOCAL_DIR):
        copy['model'] = resolve_source(node['model'], pretrained).config
    elif str(node.get('model')).startswith(HF_HUB):
        raise ValueError(
            f'expected a model that can be built without a download, got {node["model"]!r}; give '
            "the open_clip name of its architecture, or 'local-dir:FOLDER' for pretrained"
        )
    return copy


def count_regions(
    sampler: dict[str, Any] | Any,
    area_range: tuple[float, float] = (0.0, 1.0),
    max_used: int | None = None,
    num_draws: int = 4000,
) -> Regions:
    """Mean number of regions that a sampler draws in a 640 x 480 picture.

    Args:
        sampler: Config of a region sampler. :class:`ProposalRegions` depends on a file; for it,
            the most that it may draw is taken.
        area_range: Areas that the second term looks at, as shares of the image.
        max_used: Most of them that it takes per image.
        num_draws: Draws, of a fixed seed.
    """
    if isinstance(sampler, dict) and sampler['type'] == 'ProposalRegions':
        most = float(sampler.get('max_regions', 20))
        used = most if max_used is None else min(most, max_used)
        return Regions(most, used, 'the most that ProposalRegions may draw')
    draw = build_region_sampler(sampler)
    generator = np.random.default_rng(0)
    counts, used_counts = [], []
    for _ in range(num_draws):
        drawn = draw(PICTURE_SIZE[1], PICTURE_SIZE[0], generator, '')
        boxes = drawn[0] if isinstance(drawn, tuple) else drawn
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        used = int(((area >= area_range[0] - 1e-6) & (area <= area_range[1] + 1e-6)).sum())
        counts.append(len(boxes))
        used_counts.append(used if max_used is None else min(used, max_used))
    source = f'mean of {num_draws} draws of {type(draw).__name__}'
    return Regions(float(np.mean(counts)), float(np.mean(used_counts)), source)


def regions_of(model: DistillationModel, sampler: dict[str, Any] | Any) -> Regions:
    """:func:`count_regions` with the limits of a model."""
    if isinstance(model, RegionAlignment):
        return count_regions(sampler, model.scd_area_range, model.scd_max_regions)
    return count_regions(sampler, model.area_range, model.max_regions_per_image)


def meta_batch(model: DistillationModel, num_images: int, regions: Regions) -> RegionBatch:
    """A batch of the size that the model's preprocessor makes, without content."""
    preprocessor: Any = model.data_preprocessor
    num_regions = max(1, round(num_images * regions.mean))

    def empty(*shape: int) -> Tensor:
        return torch.empty(*shape, device='meta')

    crops = empty(num_regions, 3, *preprocessor.crop_size)
    return RegionBatch(
        images=empty(num_images, 3, *preprocessor.image_size),
        boxes=empty(num_regions, 5),
        regions=empty(num_regions, 4),
        cut_crops=lambda rows: crops[: len(rows)],
        crop_boxes=empty(num_regions, 4),
        img_paths=[''] * num_images,
        img_ids=torch.arange(num_images, device='meta'),
        epochs=torch.zeros(num_images, dtype=torch.long, device='meta'),
        resize_whole=lambda rows: empty(len(rows), 3, *preprocessor.crop_size),
    )


def step_flops(model: DistillationModel, regions: Regions) -> dict[str, float]:
    """FLOPs of one image in a training step, by part.

    One multiplication with its addition is two FLOPs. Matrix products, convolutions and attention
    count; norms, activations, softmax, pooling and recomputation do not, as in the model FLOPs that
    an MFU is measured with.

    Args:
        model: What :func:`build_on_meta` returned.
        regions: How many regions an image gives.
    """
    one = meta_batch(model, 1, Regions(1, 1, ''))
    if isinstance(model, RegionAlignment):
        parts = _flops(lambda: model.student.dense(one.images), 'student')
        if model.scd is not None:
            parts |= _flops(lambda: model._target_map(one), 'dense teacher', train=False)
            parts['SCD'] = _correlation_flops(model, one, regions)
        if model.needs_crops:
            crop = _flops(lambda: model._crops(one), 'crops', train=False)
            parts['crops'] = regions.mean * crop['crops']
        if model.retention is not None:
            parts |= _flops(lambda: model.student.image_embedding(one.whole), 'whole image')
            parts |= _flops(lambda: model._whole(one), 'whole image, teacher', train=False)
        return parts
    assert isinstance(model, RefinerTraining)
    trunk, grid = model.encoder.trunk(one.images)
    parts = _flops(lambda: model._trunk(one), 'trunk', train=False)
    parts |= _flops(lambda: model.encoder.refined_tokens(trunk.detach(), grid), 'Refiner')
    if model.target == 'image':
        parts |= _flops(lambda: model._pooled(trunk, grid, one.boxes), 'target', train=False)
    else:
        crop = _flops(lambda: model._crop_target(one), 'crops', train=False)
        parts['crops'] = regions.mean * crop['crops']
    return parts


def _flops(run: Callable[[], Tensor], name: str, train: bool = True) -> dict[str, float]:
    with torch.set_grad_enabled(train), FlopCounterMode(display=False) as forward:
        result = run()
    if not train:
        return {name: float(forward.get_total_flops())}
    with FlopCounterMode(display=False) as backward:
        result.sum().backward()
    return {
        f'{name} forward': float(forward.get_total_flops()),
        f'{name} backward': float(backward.get_total_flops()),
    }


def _correlation_flops(model: RegionAlignment, one: RegionBatch, regions: Regions) -> float:
    """Of one image: the teacher's correlations, the student's, and the gradient to its tokens."""
    scd: Any = model.scd
    source, patch = model.scd_teacher or model.teacher, model.student.visual.patch_size
    if isinstance(scd, CorrelationLoss):  # all tokens of the image
        tokens, times, passes = one.images[0, 0].numel() / patch**2, 1.0, 3
    else:
        tokens, times = scd.roi_size**2, regions.mean_used
        passes = 2 if scd.options['detach_keys'] else 3
    return 2.0 * times * tokens**2 * (source.embed_dim + passes * model.student.embed_dim)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, frozen) parameters; the frozen ones hold the teacher's copy as well."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trainable, sum(p.numel() for p in model.parameters()) - trainable


def optimizer_state_bytes(optimizer: dict[str, Any], trainable: int) -> int:
    """Bytes of state per device, from one step of the optimizer on a small parameter."""
    from mmengine.registry import OPTIMIZERS

    probe = nn.Parameter(torch.zeros(64))
    probe.grad = torch.ones_like(probe)
    built = OPTIMIZERS.build({**optimizer, 'params': [probe]})
    built.step()
    state = [value for value in built.state[probe].values() if isinstance(value, Tensor)]
    per_parameter = sum(value.nbytes for value in state if value.numel() == 64) / 64
    return round(trainable * per_parameter)


def step_memory(
    model: DistillationModel,
    num_images: int,
    regions: Regions,
    optimizer: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> Memory:
    """Memory of one device in a step.

    Args:
        model: What :func:`build_on_meta` returned.
        num_images: Images per device and step.
        regions: How many regions an image gives.
        optimizer: Config of the optimizer.
        dtype: Type that autocast computes in; float32 without autocast.
    """
    trainable, _ = count_parameters(model)
    tensors = [*model.parameters(), *model.buffers()]
    peaks = []
    for with_cp in (False, True):
        _set_with_cp(model, with_cp)
        model.zero_grad(set_to_none=True)
        with kernels_of_training(dtype), LiveMemory(tensors) as memory:
            gradients_before = memory.live
            _run_step(model, meta_batch(model, num_images, regions), regions)
        assert gradients_before == 0
        peaks.append(memory.peak)
    _set_with_cp(model, False)
    model.zero_grad(set_to_none=True)
    gradients = 4 * trainable
    return Memory(
        weights=sum(tensor.nbytes for tensor in tensors),
        gradients=gradients,
        optimizer=optimizer_state_bytes(optimizer, trainable),
        # Gradients are made during the step, and are all there at its end.
        activations=max(0, peaks[0] - gradients),
        activations_with_cp=max(0, peaks[1] - gradients),
    )


def _set_with_cp(model: nn.Module, with_cp: bool) -> None:
    for module in model.modules():
        if isinstance(module, DenseViT):
            module.with_cp = with_cp


def _run_step(model: DistillationModel, batch: RegionBatch, regions: Regions) -> None:
    """Forward and backward in the order of the model's own ``loss``, losses simplified.

    What a loss decides by looking at values cannot be run here: negatives are as many as there are
    cells, and where SCD streams, one piece of the stream stands for all.
    """
    used = batch.boxes[: max(1, round(len(batch) * regions.mean_used))]
    if isinstance(model, RegionAlignment):
        targets = model.teacher_features(batch)
        student = model.student.dense(batch.images).float()
        total = student.sum() * 0
        if model.rla is not None:
            total = total + pool_regions(F.normalize(student, dim=1), batch.boxes, 1).sum()
        if model.scd is not None:
            total = total + _correlation(model.scd, student, targets['map'], used)
        if model.retention is not None:
            total = total + model.student.image_embedding(batch.whole).float().sum()
    else:
        assert isinstance(model, RefinerTraining)
        frozen, grid = model.frozen_features(batch), model._grid(batch)
        refined = model.encoder.refined_tokens(frozen['trunk'], grid)
        maps = F.normalize(model.encoder.embedding_map(refined, grid).float(), dim=1)
        tokens = pool_tokens(maps, used, model.refine_loss.roi_size)
        if model.refine_loss.kind == 'infonce':
            cells = len(batch) * model.refine_loss.num_negatives_per_image
            bank = tokens.new_empty(cells, tokens.shape[-1])
            tokens = (tokens @ bank.T).logsumexp(dim=-1)
        total = tokens.sum()
    total.backward()


def _correlation(scd: Any, student: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """The spatial term of two maps, unweighted: of whole images, or of a piece of the regions."""
    if isinstance(scd, CorrelationLoss):
        own, other = (maps.flatten(2).transpose(1, 2) for maps in (student, target))
        return correlation_loss(own, other, distance=scd.distance).sum()
    piece = boxes[: max(1, scd.max_correlations // scd.roi_size**4)]
    own, other = (
        pool_tokens(F.normalize(maps.float(), dim=1), piece, scd.roi_size)
        for maps in (student, target)
    )
    return scd_loss(own, other, **scd.options).sum()
