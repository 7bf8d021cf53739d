"""CAT-Seg: the published computation written out, against the same function computed with less."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import cat_seg_reference as reference
from .harness import Comparison, Goal, Numbers, Skipped
from .registry import benchmark

LABELS = (480, 640)
TOY_TOWER = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=32, layers=3, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=2),
)
TOY_AGGREGATOR = dict(
    embed_dims=16,
    guidance_dims=8,
    window_size=2,
    pad_len=6,
    chunk=2,
    decoder_channels=(16, 16),
    decoder_guidance_channels=(4, 4),
)


def needs_mmseg() -> None:
    """Skip a row where mmseg is not installed."""
    try:
        import refineclip.segmentation  # noqa: F401
    except ImportError as error:
        raise Skipped(f'CAT-Seg needs mmseg: {error}') from error


def build_aggregator(quick: bool) -> Any:
    """The aggregator of B/16 alone, random weights; evaluation mode."""
    needs_mmseg()
    from refineclip.segmentation.cat_seg.cost_aggregation import CostAggregator

    torch.manual_seed(0)
    config = dict(TOY_AGGREGATOR, text_dims=12) if quick else {}
    return CostAggregator(**config).requires_grad_(False).eval()


def build(quick: bool) -> Any:
    """CAT-Seg with OpenAI's B/16, random weights; evaluation mode."""
    needs_mmseg()
    from mmengine.registry import MODELS

    torch.manual_seed(0)
    tower = TOY_TOWER if quick else 'ViT-B-16-quickgelu'
    view = 32 if quick else 384
    return (
        MODELS.build(
            dict(
                type='CATSeg',
                backbone=dict(
                    type='RefinerCLIP',
                    model=tower,
                    dense_mode='value-cls',
                    out_indices=(0, 1, 2) if quick else (3, 7, 11),
                ),
                text_encoder=dict(type='PromptedTextEncoder', model=tower, frozen=True),
                decode_head=dict(
                    type='CostAggregationHead', aggregator=TOY_AGGREGATOR if quick else None
                ),
                input_size=(view, view),
                test_cfg=dict(
                    mode='windows',
                    size=64 if quick else 640,
                    window=48 if quick else 384,
                    stride=16 if quick else 256,
                ),
            )
        )
        .requires_grad_(False)
        .eval()
    )


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unit(classes: int, dims: int) -> Tensor:
    """Text embeddings ``(C, D)``."""
    return F.normalize(random(classes, dims, seed=1), dim=-1)


@torch.inference_mode()
def _segment_plainly(model: Any, image: Tensor, text: Tensor) -> Numbers:
    plan = model.plan
    probabilities = reference.segment(
        model, image, text, LABELS, plan.size[0], plan.window, plan.stride
    )
    return dict(probabilities=probabilities)


@torch.inference_mode()
def _segment(model: Any, image: Tensor, text: Tensor) -> Numbers:
    from refineclip.segmentation.cat_seg.window_inference import predict_probabilities

    views = model.score_views(model.plan.views(image), text)
    return dict(probabilities=predict_probabilities(views, model.plan, LABELS, model.class_chunk))


def _inference(quick: bool, classes: int, goal: float, repeats: int) -> Comparison:
    model, image = build(quick), random(3, *LABELS)
    text = unit(classes, model.backbone.embed_dim)
    return Comparison(
        published=partial(_segment_plainly, model, image, text),
        ours=partial(_segment, model, image, text),
        setting=f'640 px, 4 windows of 384 px and a global view, B/16, {classes} classes, '
        '480 x 640 labels, float32',
        bound='linear layers of the image tower, the same on both sides, then linear layers and '
        'convolutions of every class',
        tolerances=dict(probabilities=1e-4),
        goals=(Goal('speedup', at_least=goal),),
        repeats=repeats,
    )


@benchmark('cat-seg-150')
def inference_150(quick: bool) -> Comparison:
    """A whole image, the number of classes of ADE20K."""
    return _inference(quick, 5 if quick else 150, goal=2, repeats=0)  # minutes a call


@benchmark('cat-seg-20')
def inference_20(quick: bool) -> Comparison:
    """A whole image, the number of classes of VOC."""
    return _inference(quick, 2 if quick else 20, goal=4, repeats=3)


def _side(function: Callable[..., Tensor], *inputs: Any) -> Numbers:
    with torch.inference_mode():
        return dict(result=function(*inputs))


def _aggregator(quick: bool, classes: int, goals: tuple[Goal, ...], repeats: int) -> Comparison:
    aggregator, side, dims = build_aggregator(quick), 4 if quick else 24, 12 if quick else 512
    inputs = (
        random(1, dims, side, side),
        unit(classes, dims),
        [random(1, 256, 2 * side, 2 * side), random(1, 128, 4 * side, 4 * side)],
    )
    return Comparison(
        published=partial(_side, partial(reference.aggregate, aggregator), *inputs),
        ours=partial(_side, lambda *args: aggregator(*args)[0], *inputs),
        setting=f'the aggregator alone, 1 window of 24 x 24 tokens, {classes} classes, float32',
        bound='linear layers and convolutions of every class',
        tolerances=dict(result=1e-4),
        goals=goals,
        repeats=repeats,
    )


@benchmark('cat-seg-aggregator-150')
def aggregator_150(quick: bool) -> Comparison:
    """One window without the image tower, 150 classes."""
    goals = (Goal('speedup', at_least=1.4), Goal('memory', at_most=0.4))
    return _aggregator(quick, 5 if quick else 150, goals, repeats=3)


@benchmark('cat-seg-aggregator-20')
def aggregator_20(quick: bool) -> Comparison:
    """One window without the image tower, 20 classes: padding is most of the published work."""
    return _aggregator(quick, 2 if quick else 20, (Goal('speedup', at_least=4),), repeats=3)


@benchmark('cat-seg-847-labels')
def labels_847(quick: bool) -> Comparison:
    """From the logits of all views to labels."""
    needs_mmseg()
    from refineclip.segmentation.cat_seg.window_inference import (
        ViewLogits,
        WindowPlan,
        predict_labels,
    )

    classes, run, side = (9, 6, 4) if quick else (847, 256, 96)
    plan = WindowPlan((64, 64), 48, 16) if quick else WindowPlan((640, 640), 384, 256)
    number = len(plan.boxes) + 1
    generator = torch.Generator().manual_seed(2)
    chosen = torch.stack(
        [torch.randperm(classes, generator=generator)[:run] for _ in range(number)]
    )
    chosen = chosen.sort().values
    logits = random(number, run, side, side)

    def plainly() -> Numbers:
        full = torch.full((number, classes, side, side), -100.0)
        full.scatter_(1, chosen[..., None, None].expand_as(logits), logits)
        probabilities = reference.merge(full, plan.size[0], plan.window, plan.stride, LABELS)
        return dict(labels=probabilities.argmax(0))

    def ours() -> Numbers:
        return dict(labels=predict_labels(ViewLogits(logits, chosen, classes), plan, LABELS, 16))

    return Comparison(
        published=plainly,
        ours=ours,
        setting='847 classes of which each of 5 views has run 256, 480 x 640 labels, float32',
        bound='16 classes at the size of all windows and of the labels',
        tolerances=dict(labels=1e-4),
        difference=lambda a, b: float((a != b).double().mean()),
        goals=(Goal('memory', at_most=0.2), Goal('speedup', at_least=0.9)),
        repeats=2,
    )


@benchmark('cat-seg-text')
def text_tower(quick: bool) -> Comparison:
    """Prompts of 171 classes, forward and backward as in training."""
    needs_mmseg()
    from mmseg.datasets import COCOStuffDataset

    from refineclip.encoders.text.prompt_encoding import encode_prompts
    from refineclip.segmentation.cat_seg.prompted_text import PromptedTextEncoder

    torch.manual_seed(0)
    layers = dict(text_cfg=dict(layers=4))
    encoder = (
        PromptedTextEncoder(TOY_TOWER, frozen=True)
        if quick
        else PromptedTextEncoder('ViT-B-16-quickgelu', frozen=True, model_kwargs=layers)
    )
    text = encoder.text.train()
    names = COCOStuffDataset.METAINFO['classes'][: 3 if quick else 171]
    tokens = encoder.tokenize(names)
    weight = text.transformer.resblocks[0].attn.in_proj_weight.requires_grad_()

    def call(function: Callable[[Tensor], Tensor]) -> Numbers:
        embeddings = function(tokens)
        (gradient,) = torch.autograd.grad(embeddings.square().sum(), weight)
        return dict(embeddings=embeddings.detach(), gradient=gradient)

    longest = int((tokens.argmax(-1)).max()) + 1
    return Comparison(
        published=partial(call, text),
        ours=partial(call, partial(encode_prompts, text)),
        setting=f'{len(names)} names of COCO-Stuff, prompts of at most {longest} of '
        f'{tokens.shape[1]} tokens, 4 of 12 layers of the text tower of OpenAI B/16, float32, '
        'forward and backward',
        bound=f'{longest} / {tokens.shape[1]} of the tokens',
        tolerances=dict(embeddings=1e-5, gradient=1e-4),
        goals=(Goal('speedup', at_least=4),),
        repeats=2,
        memory=False,
    )


@benchmark('cat-seg-windows')
def window_attention(quick: bool) -> Comparison:
    """Two guided Swin blocks: repeated guidance, roll, mask and softmax, or none of them."""
    module = build_aggregator(quick).layers[0].spatial
    side, classes = (4, 3) if quick else (24, 64)
    dims = module.blocks[0].attn.embed_dims
    guidance_dims = module.guidance_norm.normalized_shape[0]
    x, guidance = random(1, classes, side, side, dims), random(1, side, side, guidance_dims)

    def ours() -> Tensor:
        guides = module.guide(guidance.flatten(1, 2))
        return module(x.flatten(2, 3), guides, (side, side)).view_as(x)

    return Comparison(
        published=partial(_side, partial(reference.spatial_aggregation, module), x, guidance),
        ours=partial(_side, ours),
        setting=f'spatial aggregation of one layer, 24 x 24 tokens, {classes} classes, '
        'all at once, float32',
        bound='the MLP and the output projection, the same on both sides',
        tolerances=dict(result=1e-4),
        repeats=5,
    )


def _pads(quick: bool, classes: int, goal: float) -> Comparison:
    module = build_aggregator(quick).layers[0].classes
    side = 4 if quick else 24
    x = random(1, classes, side, side, module.attn.embed_dims)
    text = random(1, classes, module.attn.q.in_features - module.attn.embed_dims)

    def ours() -> Tensor:
        return module(x.flatten(2, 3), text, (side, side)).view_as(x)

    return Comparison(
        published=partial(_side, partial(reference.class_aggregation, module), x, text),
        ours=partial(_side, ours),
        setting=f'class aggregation of one layer, 24 x 24 tokens, {classes} classes in '
        'pad_len 256, all at once, float32',
        bound=f'{classes} / 256 of the classes',
        tolerances=dict(result=1e-4),
        # Bars of the benchmark design, not goals of the project.
        goals=(Goal('speedup', at_least=goal),),
        repeats=3,
    )


@benchmark('cat-seg-pads-20')
def pads_20(quick: bool) -> Comparison:
    """Class attention with VOC's number of classes."""
    return _pads(quick, 2 if quick else 20, goal=4)


@benchmark('cat-seg-pads-150')
def pads_150(quick: bool) -> Comparison:
    """Class attention with ADE20K's number of classes."""
    return _pads(quick, 5 if quick else 150, goal=1.5)
