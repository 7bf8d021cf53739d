"""Training steps by name: a model, and the images of a batch, of which some have no region."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, DefaultScope

import refineclip.distill
import refineclip.encoders  # noqa: F401
from refineclip.datasets.collate import collate_regions
from tests.test_distill.toy_runs import stage2_model
from tests.test_distill.toys import STUDENT

BATCH = 4  # images of a step, of all processes together
NOUNS = 40
# Regions of images in turn. Of the first batch the second process of two or four has none.
REGIONS = (5, 0, 2, 0, 1, 4, 3, 0)


@dataclass(frozen=True)
class Step:
    """What is trained.

    Attributes:
        model: Builds the model, with weights that depend on the seed only.
        images: The items of two batches.
        collate: Makes a batch of items.
        needs_mm: Whether mmdet and mmseg are needed.
        tolerance: Of losses, and of gradients as a share of the largest.
    """

    model: Callable[[], Any]
    images: Callable[[], list[Any]]
    collate: Callable[[list[Any]], dict[str, Any]] = collate_regions
    needs_mm: bool = False
    tolerance: float = 1e-5


def train(step: Step, rank: int, world: int, counts: int) -> dict[str, Any]:
    """Losses of this process, and the weights after one step of SGD over ``counts`` batches.

    The learning rate is 1: what the weights move by is the gradient.
    """
    MessageHub.get_instance('step')
    torch.manual_seed(3)
    model = step.model().train()
    if world > 1:
        model = MMDistributedDataParallel(
            model, device_ids=None, find_unused_parameters=True, broadcast_buffers=False
        )
    wrapper = build_optim_wrapper(
        model, dict(optimizer=dict(type='SGD', lr=1.0), accumulative_counts=counts)
    )
    wrapper.initialize_count_status(model, 0, counts)
    images, losses = step.images(), []
    for batch in range(counts):
        # As samplers deal images out: in turn.
        own = images[batch * BATCH : (batch + 1) * BATCH][rank::world]
        logs = model.train_step(step.collate(own), wrapper)
        losses.append(float(logs['loss'].detach()))
    bare = getattr(model, 'module', model)
    weights = {name: p.detach() for name, p in bare.named_parameters() if p.requires_grad}
    return dict(losses=losses, weights=weights)


def regions(bad: bool = False) -> list[dict[str, Any]]:
    """Images of noise as RegionImageFolder gives them; ``bad``: those without region are broken."""
    generator = torch.Generator().manual_seed(5)
    items: list[dict[str, Any]] = []
    for index, count in enumerate(REGIONS):
        corners = torch.rand(count, 2, generator=generator) * 0.5
        sides = 0.2 + torch.rand(count, 2, generator=generator) * 0.3
        size = (3, 40 + 4 * (index % 2), 36)
        items.append(
            dict(
                inputs=torch.randint(0, 256, size, generator=generator, dtype=torch.uint8),
                boxes=torch.cat([corners, corners + sides], dim=1),
                labels=torch.randint(0, NOUNS, (count,), generator=generator),
                img_path=f'{index}.png',
                img_id=index,
                epoch=0,
            )
        )
    broken = [dict(bad_image=(item['img_path'], 'empty')) for item in items]
    return [
        broken[index] if bad and not REGIONS[index] else item for index, item in enumerate(items)
    ]


def moved(model: Any, part: Any) -> Any:
    """A model of which some weights are no longer those of its teacher."""
    for parameter in part.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def stage1(**loss: Any) -> Callable[[], Any]:
    """Stage 1; every cell is a negative, so that nothing is drawn."""

    def build() -> Any:
        config = dict(
            type='RefinerTraining',
            encoder=dict(**STUDENT, refiner=dict(num_blocks=2)),
            loss=dict(type='RefineLoss', roi_size=2, num_negatives_per_image=99, **loss),
            data_preprocessor=stage2_model()['data_preprocessor'],
        )
        model = MODELS.build(config)
        return moved(model, model.encoder.refiner)

    return build


def stage2(method: str, **changes: Any) -> Callable[[], Any]:
    """Stage 2, away from its teacher, where the gradient of SCD is zero."""

    def build() -> Any:
        model = MODELS.build({**stage2_model(method), **changes})
        if model.teacher.refiner is not None:
            moved(model, model.teacher.refiner)
        return moved(model, model.student.visual.blocks)

    return build


def nouns() -> dict[str, Any]:
    """Alignment with 12 of 40 nouns, fewer than regions name."""
    text = torch.randn(NOUNS, 12, generator=torch.Generator().manual_seed(1))
    return dict(type='RegionTextLoss', text_embeddings=text, num_sampled=12)


STEPS: dict[str, Step] = {
    'stage 1, InfoNCE': Step(stage1(), regions),
    'stage 1, cosine': Step(stage1(kind='cosine'), regions),
    **{
        f'stage 2, {method}': Step(stage2(method), regions)
        for method in ('rla', 'sc-rla', 'r-sc-rla', 'r-sc-v')
    },
    'stage 2, nouns': Step(stage2('sc-rla', rla=nouns()), regions),
    'stage 2, retention': Step(stage2('sc-rla', retention=dict(type='RetentionLoss')), regions),
    'stage 2, streamed SCD': Step(
        stage2('r-sc-v', scd=dict(type='SCDLoss', roi_size=2, max_correlations=16)), regions
    ),
    'stage 2, cross-tower': Step(
        stage2('sc-rla', scd_teacher={**STUDENT, 'dense_mode': 'plain'}), regions
    ),
    'stage 1, broken images': Step(stage1(), lambda: regions(bad=True)),
    'stage 2, broken images': Step(stage2('r-sc-rla'), lambda: regions(bad=True)),
    'stage 2, nouns, broken images': Step(stage2('rla', rla=nouns()), lambda: regions(bad=True)),
}


def fvit() -> Any:
    """F-ViT with GroupNorm (SyncBN, which shares statistics, needs GPUs), and nothing drawn."""
    from mmdet.models.task_modules.samplers import RandomSampler
    from mmengine.registry import TASK_UTILS

    from tests.test_detection import toys

    @TASK_UTILS.register_module(force=True)
    class FirstSampler(RandomSampler):
        def random_choice(self, gallery: torch.Tensor, num: int) -> torch.Tensor:
            return gallery[:num]

    norm = dict(type='GN', num_groups=2)
    config = toys.model_config(
        roi_head__bbox_head__norm_cfg=norm,
        train_cfg__rpn__sampler__type='FirstSampler',
        train_cfg__rcnn__sampler__type='FirstSampler',
        # mmdet divides by what a process samples: as many of every image, as in a full-size one.
        train_cfg__rcnn__sampler__num=16,
    )
    for part in config.neck:
        part.norm_cfg = norm
    DefaultScope.get_instance('steps', scope_name='mmdet')
    return MODELS.build(config)


def detections(least: int = 1) -> list[Any]:
    """Noise images with boxes, of each at least so many."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    from tests.test_detection import toys

    items = []
    batch = toys.batch(64, len(REGIONS))
    counts = [max(count, least) for count in REGIONS]
    for image, count in zip(batch['inputs'], counts, strict=True):
        sample = DetDataSample(
            metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0), img_id=0)
        )
        corners = 4.0 + 6 * torch.arange(count)[:, None].repeat(1, 2)
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corners, corners + 24], dim=1), labels=torch.arange(count) % 3
        )
        items.append((image, sample))
    return items


def cat_seg(scd: bool = False) -> Callable[[], Any]:
    """CAT-Seg; with ``scd`` SCDHook beside it."""

    def build() -> Any:
        from tests.test_segmentation.test_cat_seg import toys

        # In float32 the gradients of biases, sums over all pixels, are rounded by more than 1e-5.
        model = toys.cat_seg().double()
        if scd:
            runner = SimpleNamespace(model=model)
            hook = HOOKS.build(
                dict(
                    type='SCDHook',
                    scd=dict(type='SCDLoss', roi_size=2),
                    region_sampler=dict(type='GridRegions', max_split=3),
                )
            )
            hook.before_run(runner)
            moved(model, hook.teacher)
            hook.before_train(runner)
        return model

    return build


def labelled() -> list[Any]:
    """Noise images with noise labels, or with none but ignored pixels."""
    from tests.test_segmentation.test_cat_seg import toys

    batch = toys.batch(len(REGIONS))
    for sample, count in zip(batch['data_samples'], REGIONS, strict=True):
        if not count:
            sample.gt_sem_seg.data[:] = 255
    return list(zip(batch['inputs'].double(), batch['data_samples'], strict=True))


def stacked(items: list[Any]) -> dict[str, Any]:
    """A batch for a segmentor."""
    return dict(inputs=torch.stack([item[0] for item in items]), data_samples=[i[1] for i in items])


def listed(items: list[Any]) -> dict[str, Any]:
    """A batch for a detector."""
    return dict(inputs=[item[0] for item in items], data_samples=[item[1] for item in items])


STEPS |= {
    # Rounding turns a ReLU on or off here and there.
    'F-ViT': Step(fvit, detections, listed, needs_mm=True, tolerance=3e-4),
    # mmdet counts 257 samples of an image without an object and 256 of any other.
    'F-ViT, images without objects': Step(
        fvit, lambda: detections(least=0), listed, needs_mm=True, tolerance=1e-3
    ),
    'CAT-Seg': Step(cat_seg(), labelled, stacked, needs_mm=True),
    'CAT-Seg, SCDHook': Step(cat_seg(scd=True), labelled, stacked, needs_mm=True),
}
