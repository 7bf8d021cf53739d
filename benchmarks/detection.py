"""F-ViT: one forward of the tower for both sides, and what the detector adds to its parts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor
from torch.nn import functional as F

from .harness import Comparison, Goal, Numbers, Skipped
from .registry import benchmark

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / '_base_' / 'models'
SETTING = 'F-ViT, EVA-02 B/16, 320 px, 1 image, float32'


def _model(quick: bool, num_classes: int = 65) -> Any:
    """F-ViT of OV-COCO with random weights and random text."""
    try:
        import refineclip.detection  # noqa: F401
    except ImportError as error:
        raise Skipped(f'F-ViT needs mmdet: {error}') from error
    config = Config.fromfile(CONFIGS / ('fvit_toy.py' if quick else 'fvit.py')).model
    config.backbone.pretrained = None
    config.data_preprocessor.pad_size_divisor = 16 if quick else 32
    head = config.roi_head.bbox_head
    text = torch.randn(num_classes + 1, head.fc_out_channels)
    head.classifier = dict(
        names=[f'class {index}' for index in range(num_classes)],
        text=dict(text_embeddings=F.normalize(text, dim=1)),
    )
    for part in (*config.neck, head):  # SyncBN asks for a GPU
        part.norm_cfg.type = 'BN'
    MMLogger.get_current_instance().setLevel('ERROR')  # init_weights names every tensor
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config)
        model.init_weights()
    return model


def _batch(quick: bool) -> dict[str, Any]:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    size = 64 if quick else 320
    sample = DetDataSample(
        metainfo=dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0))
    )
    box = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.4, 0.2, 0.9, 0.9]]) * size
    sample.gt_instances = InstanceData(bboxes=box, labels=torch.tensor([0, 1]))
    image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
    return dict(inputs=[image], data_samples=[sample])


@benchmark('detection-shared-forward')
def shared_forward(quick: bool) -> Comparison:
    """Taps and CLIP map of one image: two passes of the tower, or one."""
    model = _model(quick).eval()
    images = model.data_preprocessor(_batch(quick), training=False)['inputs']

    @torch.no_grad()
    def two() -> Numbers:
        return _maps(model.backbone(images), model.backbone.dense(images))

    @torch.no_grad()
    def one() -> Numbers:
        taps = model.backbone(images)
        return _maps(taps, model.backbone.project_map(taps[-1]))

    return Comparison(
        published=two,
        ours=one,
        setting=f'{SETTING}; tower only',
        bound='2: the whole pass is shared, all but norm and head of the last tokens',
        tolerances=dict(first_tap=0.0, last_tap=0.0, vlm_map=1e-5),
        goals=(Goal('speedup', at_least=1.8),),
    )


def _maps(taps: tuple[Tensor, ...], vlm_map: Tensor) -> Numbers:
    return dict(first_tap=taps[0], last_tap=taps[-1], vlm_map=vlm_map)


@benchmark('detection-step')
def step(quick: bool) -> Comparison:
    """A training step of the detector against its parts called one by one."""
    model, batch = _model(quick).train(), _batch(quick)

    def finish(losses: dict[str, Any]) -> Numbers:
        total = model.parse_losses(losses)[0]
        total.backward()
        gradient = model.neck[0].levels[1].weight.grad.clone()
        model.zero_grad(set_to_none=True)
        return dict(loss=total.detach(), stem_grad=gradient)

    def data() -> dict[str, Any]:
        torch.manual_seed(0)  # both sides draw the same boxes
        return model.data_preprocessor(batch, training=True)

    def parts() -> Numbers:
        inputs, samples = data().values()
        with torch.no_grad():
            taps = model.backbone(inputs)
        levels = model.neck(taps)
        rpn_samples = copy.deepcopy(samples)
        for sample in rpn_samples:
            sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
        rpn, proposals = model.rpn_head.loss_and_predict(
            levels, rpn_samples, proposal_cfg=model.train_cfg.rpn_proposal
        )
        return finish({**rpn, **model.roi_head.loss(levels, proposals, samples)})

    return Comparison(
        published=parts,
        ours=lambda: finish(model(**data(), mode='loss')),
        setting=f'{SETTING}; forward and backward, no optimizer',
        bound='1: the detector adds no work to its parts',
        tolerances=dict(loss=1e-5, stem_grad=1e-4),
        goals=(Goal('speedup', at_least=0.95), Goal('memory', at_most=1.05)),
        repeats=3,
    )


@benchmark('detection-inference')
def inference(quick: bool) -> Comparison:
    """A prediction against tower, neck, RPN, box head, fusion and NMS called one by one."""
    model, batch = _model(quick).eval(), _batch(quick)
    # Random weights score every class alike: let all boxes through, so that there are numbers.
    model.test_cfg.rcnn.score_thr = model.roi_head.test_cfg.score_thr = 0.0

    @torch.no_grad()
    def whole() -> Numbers:
        data = model.data_preprocessor(batch, training=False)
        return _found(model(**data, mode='predict')[0].pred_instances)

    @torch.no_grad()
    def parts() -> Numbers:
        from mmdet.structures.bbox import bbox2roi

        from refineclip.detection.score_fusion import pool_vlm_map

        inputs, samples = model.data_preprocessor(batch, training=False).values()
        taps = model.backbone(inputs)
        levels = model.neck(taps)
        proposals = model.rpn_head.predict(levels, samples, rescale=False)
        rois = bbox2roi([proposals[0].bboxes])
        found = model.roi_head._bbox_forward(levels, rois)
        pooled = pool_vlm_map(
            model.backbone.project_map(taps[-1]), rois, model.backbone.visual.patch_size
        )
        scores = model.roi_head.scores(found['cls_score'], pooled)
        return _found(
            model.roi_head.bbox_head.predict_by_feat(
                [rois],
                [scores],
                [found['bbox_pred']],
                [samples[0].metainfo],
                rcnn_test_cfg=model.roi_head.test_cfg,
                rescale=True,
            )[0]
        )

    return Comparison(
        published=parts,
        ours=whole,
        setting=f'{SETTING}; 65 classes',
        bound='1: the detector adds no work to its parts',
        tolerances=dict(boxes=1e-5, scores=1e-5),
        goals=(Goal('speedup', at_least=0.95), Goal('memory', at_most=1.05)),
        repeats=3,
    )


def _found(instances: Any) -> Numbers:
    return dict(boxes=instances.bboxes, scores=instances.scores)


@benchmark('detection-text-classifier')
def text_classifier(quick: bool) -> Comparison:
    """A forward without and with the scores of 1,203 classes, from the head and from the map."""
    model = _model(quick, 20 if quick else 1203).eval()
    data = model.data_preprocessor(_batch(quick), training=False)
    inputs, samples = data['inputs'], data['data_samples']

    @torch.no_grad()
    def forward(classify: bool) -> Numbers:
        from mmdet.structures.bbox import bbox2roi

        from refineclip.detection.score_fusion import pool_vlm_map

        taps = model.backbone(inputs)
        levels = model.neck(taps)
        proposals = model.rpn_head.predict(levels, samples, rescale=False)
        rois = bbox2roi([proposals[0].bboxes])
        head = model.roi_head.bbox_head
        pooled = pool_vlm_map(
            model.backbone.project_map(taps[-1]), rois, model.backbone.visual.patch_size
        )
        head.with_cls = classify
        logits, deltas = head(model.roi_head.bbox_roi_extractor(levels[:4], rois))
        if classify:
            model.roi_head.scores(logits, pooled)
        return dict(boxes=deltas, pooled=pooled)

    return Comparison(
        published=lambda: forward(False),
        ours=lambda: forward(True),
        setting=f'{SETTING}; 1,203 classes, up to 1,000 proposals; up to NMS, which is left out',
        bound='1',
        tolerances=dict(boxes=0.0, pooled=0.0),
        goals=(Goal('speedup', at_least=0.97),),
        memory=False,
    )
