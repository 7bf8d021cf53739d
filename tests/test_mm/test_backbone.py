"""RefinerCLIP in stock mmdet and mmseg models, by changing the backbone line only."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.mm


@pytest.fixture
def det():
    pytest.importorskip('mmdet.models')
    from . import toy_hosts

    return toy_hosts


@pytest.fixture
def seg():
    pytest.importorskip('mmseg.models')
    from . import toy_hosts

    return toy_hosts


def batch(dataset, size=2):
    items = [dataset[i] for i in range(size)]
    return {key: [item[key] for item in items] for key in items[0]}


def losses_of(model, dataset):
    data = model.data_preprocessor(batch(dataset), training=True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    return total


def test_mask_rcnn_trains_and_predicts(det):
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(det.detector())
        total = losses_of(model, det.DetectionToys())
        assert torch.isfinite(total)
        block = model.backbone.visual.blocks[0]
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.mlp.parameters())
        model.eval()
        data = model.data_preprocessor(batch(det.DetectionToys(), 1), training=False)
        with torch.no_grad():
            result = model(**data, mode='predict')[0].pred_instances
    assert result.bboxes.shape[1] == 4


def test_fcn_trains_and_predicts(seg):
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(seg.segmentor())
        assert torch.isfinite(losses_of(model, seg.SegmentationToys()))
        model.eval()
        data = model.data_preprocessor(batch(seg.SegmentationToys(), 1), training=False)
        with torch.no_grad():
            result = model(**data, mode='predict')[0]
    assert result.pred_sem_seg.data.shape[-2:] == (64, 64)


def test_frozen_backbone_gets_no_gradient_and_stays_in_eval(det):
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(det.detector(frozen=True)).train()
        before = {k: v.clone() for k, v in model.backbone.visual.state_dict().items()}
        losses_of(model, det.DetectionToys())
    assert not model.backbone.visual.training
    assert all(p.grad is None for p in model.backbone.visual.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.visual.state_dict().items())
    # The 1x1 adapters belong to the detector and learn.
    assert all(p.grad is not None for p in model.backbone.pyramid.parameters())
