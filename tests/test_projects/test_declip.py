"""DeCLIP: two streams of one block, each with a teacher of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS

import projects.declip.declip  # noqa: F401  (registers DeCLIP)
from projects.declip.declip.streams import split_streams
from refineclip.distill.losses import shows_picture
from tests.test_distill.toys import PREPROCESSOR, STUDENT, TOWER, raw_batch, region_batch

CONTENT = dict(type='CLIPSelfLoss')
CONTEXT = dict(type='CorrelationLoss', loss_weight=0.25)
# Another patch, width and grid than the student's.
VISION = dict(
    type='RefinerCLIP',
    model={
        **TOWER,
        'vision_cfg': dict(image_size=16, layers=2, width=24, head_width=8, patch_size=4),
    },
    dense_mode='plain',
)
LEFT_HALF = torch.tensor([[0.0, 0.0, 0.5, 1.0]])


def build(**kwargs: Any) -> Any:
    config = dict(
        type='DeCLIP',
        student={**STUDENT, 'dense_mode': 'query-query-only'},
        content=CONTENT,
        context=CONTEXT,
        vision_model='frozen-student',
        data_preprocessor=PREPROCESSOR,
    )
    return MODELS.build({**config, **kwargs}).train()


@pytest.mark.parametrize('vision_model', [VISION, 'frozen-student'])
def test_a_step_moves_the_blocks_and_no_teacher(vision_model):
    model = build(vision_model=vision_model)
    before = copy.deepcopy(model.state_dict())
    model.train_step(raw_batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0)))
    changed = {k for k, value in model.state_dict().items() if not torch.equal(value, before[k])}
    assert changed
    assert all(name.startswith('student.visual.model.transformer.resblocks.') for name in changed)


def test_content_is_the_dense_map_that_is_measured():
    model = build()
    images = region_batch(model).images
    content, _ = split_streams(model.student, images, ('query',))
    assert torch.equal(content, model.student.dense(images))
    assert torch.equal(content, model(region_batch(model), mode='tensor'))


@pytest.mark.parametrize(('stream', 'moved'), [('query', (0,)), ('key', (1,))])
def test_context_reaches_its_own_projection_alone(stream, moved):
    """Of the last block, the q or the k of the fused projection; its values stay."""
    model = build(stream=stream, vision_model=VISION)
    batch = region_batch(model)
    _, context = split_streams(model.student, batch.images, model.streams)
    target = model.teacher_features(batch)['map']
    assert target.shape[-2:] == (4, 4)  # equal token counts, by the size it looks at
    model._context_loss(context, target, batch, torch.tensor(3.0))['loss_scd'].backward()
    attention = model.student.visual.blocks[-1].attn
    parts = attention.in_proj_weight.grad.chunk(3)
    assert [i for i, part in enumerate(parts) if part.abs().max() > 0] == list(moved)


def test_both_streams_are_the_mean_of_each():
    batch, losses = None, {}
    for stream in ('query', 'key', 'query-key'):
        torch.manual_seed(0)
        model = build(stream=stream, vision_model=VISION)
        batch = region_batch(model)
        losses[stream] = model(batch, mode='loss')['loss_scd']
    torch.testing.assert_close(
        losses['query-key'], (losses['query'] + losses['key']) / 2, rtol=1e-5, atol=1e-6
    )


def test_correlations_by_hand():
    model = build(vision_model=VISION)
    batch = region_batch(model)
    _, (context,) = split_streams(model.student, batch.images, ('query',))
    target = model.teacher_features(batch)['map'].flatten(2).transpose(1, 2)
    valid = shows_picture(batch.pictures, (4, 4))
    rows = []
    for image in range(len(batch)):
        own, other = (F.normalize(x[image][valid[image]], dim=1) for x in (context, target))
        rows.append((own @ own.T - other @ other.T).norm(dim=1).mean())
    expected = 0.25 * torch.stack(rows).mean()
    torch.testing.assert_close(model(batch, mode='loss')['loss_scd'], expected)


def test_padding_is_no_picture():
    assert shows_picture(None, (2, 4)) is None
    assert shows_picture(LEFT_HALF, (1, 4)).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(stream='value'), ValueError, r"stream: expected one of .*got 'value'"),
        (dict(vision_model='dino'), ValueError, r"or 'frozen-student', got 'dino'"),
        (dict(context=dict(type='SCDLoss')), TypeError, 'a CorrelationLoss, got SCDLoss'),
        (
            dict(student={**STUDENT, 'refiner': dict(num_blocks=1)}),
            ValueError,
            'without a Refiner',
        ),
    ],
)
def test_wrong_input(options, error, message):
    with pytest.raises(error, match=message):
        build(**options)


def test_both_published_weights_are_presets(repo_root: Path):
    weights = {}
    for path in (repo_root / 'projects/declip/configs').glob('*.py'):
        cfg = Config.fromfile(path)
        assert cfg.model.student.dense_mode == 'query-query-only'
        weights[path.stem] = cfg.model.context.loss_weight
    assert len(weights) == 6
    assert all(w == (0.1 if '-script' in stem else 0.25) for stem, w in weights.items())
