"""Made-up pictures, regions and models of the sizes that the benchmarks name."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from numpy.typing import NDArray
from torch import Tensor, nn

import refineclip.distill
import refineclip.encoders  # noqa: F401  (registers the models)

COCO_SIZE = (640, 480)  # width and height, the most common size in COCO
# CLIP's normalisation, times 255.
MEAN = (122.7709383, 116.7460125, 104.0937362)
STD = (68.5005327, 66.6321579, 70.3231631)

# timm's EVA-02 towers with a projection as wide as that of the CLIP they come from.
BASE = ('timm/eva02_base_patch16_clip_224', dict(num_classes=512))
LARGE = ('timm/eva02_large_patch14_clip_336', dict(num_classes=768))
TOY = ('timm/eva02_base_patch16_clip_224', dict(num_classes=32, embed_dim=32, num_heads=2))

# The plain softmax of cosines, which these rows have timed from the first on; the default form is
# another (docs/search.md).
PLAIN_SCD = dict(
    normalize='none', detach_keys=False, student_temperature=0.1, teacher_temperature=0.1
)


def picture(seed: int, size: tuple[int, int] = COCO_SIZE) -> NDArray[np.uint8]:
    """A picture (h, w, 3) with the 1 / f spectrum of photos, so that JPEG and resizing see one."""
    width, height = size
    generator = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = np.fft.rfft2(generator.standard_normal((height, width, 3)), axes=(0, 1))
    spectrum /= np.maximum(frequency, 1 / width)[..., None]
    values = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    values = (values - values.mean()) / values.std()
    return np.clip(128 + 50 * values, 0, 255).astype(np.uint8)


def grid(rows: int, columns: int, size: tuple[int, int] = COCO_SIZE) -> Tensor:
    """All cells of a grid, float32 (rows * columns, 4) xyxy in [0, 1], edges on whole pixels."""
    x = np.rint(np.linspace(0, size[0], columns + 1)) / size[0]
    y = np.rint(np.linspace(0, size[1], rows + 1)) / size[1]
    row, column = np.divmod(np.arange(rows * columns), columns)
    return torch.from_numpy(
        np.stack([x[column], y[row], x[column + 1], y[row + 1]], axis=1).astype(np.float32)
    )


def raw_batch(
    grids: list[tuple[int, int]], size: tuple[int, int] = COCO_SIZE
) -> dict[str, list[Any]]:
    """What the loader ships: one uint8 picture (3, h, w) with the cells of each grid.

    Args:
        grids: Rows and columns of the regions of each picture.
        size: Width and height of all pictures.
    """
    return dict(
        inputs=[
            torch.from_numpy(picture(seed, size)).permute(2, 0, 1).contiguous()
            for seed in range(len(grids))
        ],
        boxes=[grid(*shape, size) for shape in grids],
        img_paths=[f'made-up-{seed}.jpg' for seed in range(len(grids))],
        img_ids=list(range(len(grids))),
        epochs=[0] * len(grids),
    )


def encoder(tower: tuple[str, dict[str, Any]], depth: int | None = None, **kwargs: Any) -> dict:
    """Config of a RefinerCLIP with random weights, cut to ``depth`` blocks if given."""
    name, model_kwargs = tower
    extra = {} if depth is None else dict(depth=depth)
    return dict(type='RefinerCLIP', model=name, model_kwargs={**model_kwargs, **extra}, **kwargs)


def preprocessor(image_size: int, crop_size: int) -> dict[str, Any]:
    """Config of the RegionPreprocessor."""
    return dict(
        type='RegionPreprocessor',
        mean=MEAN,
        std=STD,
        image_size=image_size,
        crop_size=crop_size,
    )


def build(config: dict[str, Any], seed: int = 0) -> Any:
    """Build a training stage, its weights drawn from ``seed``, in training mode."""
    # The Refiner of these models is meant to be untrained, see _spread_refiner.
    MMLogger.get_current_instance().setLevel('ERROR')
    torch.manual_seed(seed)
    model = MODELS.build(config).train()
    _spread_refiner(model)
    return model


def _spread_refiner(model: nn.Module) -> None:
    """Make an untrained Refiner differ from its encoder, as a trained one does."""
    refiner = getattr(getattr(model, 'teacher', None), 'refiner', None)
    if refiner is not None:
        with torch.no_grad():
            for parameter in refiner.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))


def alignment(
    tower: tuple[str, dict[str, Any]],
    depth: int | None,
    image_size: int,
    crop_size: int,
    num_refiner_blocks: int = 3,
    **kwargs: Any,
) -> Any:
    """Build an R-SC-CLIPSelf stage with the defaults of ``configs/_base_/models``."""
    return build(
        dict(
            type='RegionAlignment',
            method='r-sc-rla',
            data_preprocessor=preprocessor(image_size, crop_size),
            student=encoder(tower, depth, dense_mode='value'),
            rla=dict(type='CLIPSelfLoss'),
            scd=dict(type='SCDLoss', **PLAIN_SCD, loss_weight=1.0),
            refiner=dict(num_blocks=num_refiner_blocks),
            **kwargs,
        )
    )


def backward_numbers(model: nn.Module, losses: dict[str, Tensor], blocks: Any) -> dict[str, Tensor]:
    """Backward through the sum of all losses; losses, and gradients of the outer blocks.

    Args:
        model: Whose gradients are cleared afterwards.
        losses: Scalars by name; those named ``loss*`` are summed.
        blocks: Trained blocks, first to last; the gradients of the first and of the last one are
            returned, flat.
    """
    losses = {name: value for name, value in losses.items() if name.startswith('loss')}
    torch.stack(list(losses.values())).sum().backward()
    numbers = {name: value.detach() for name, value in losses.items()}
    for name, block in (('first_block_grad', blocks[0]), ('last_block_grad', blocks[-1])):
        grads = [p.grad.flatten() for p in block.parameters() if p.grad is not None]
        numbers[name] = torch.cat(grads)
    model.zero_grad(set_to_none=True)
    return numbers
