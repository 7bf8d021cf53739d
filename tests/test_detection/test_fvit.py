"""FViT: one frozen forward, masked training, fused testing, and parts that must fit."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip('mmdet.models')

from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData

from refineclip.detection.score_fusion import cosine_logits, fuse_scores, pool_vlm_map

from . import toys

pytestmark = pytest.mark.mm
PATCH_14 = dict(
    embed_dim=128,
    vision_cfg=dict(image_size=56, layers=4, width=128, head_width=32, patch_size=14),
)
STRIDES_14 = [3.5, 7, 14, 28, 56]


@pytest.fixture
def model():
    return toys.build()


def losses_of(model, **kwargs):
    data = model.data_preprocessor(toys.batch(**kwargs), training=True)
    losses = model(**data, mode='loss')
    return losses, model.parse_losses(losses)[0]


def predict(model, size=64):
    data = model.data_preprocessor(toys.batch(size, 1), training=False)
    with torch.no_grad():
        return model.eval()(**data, mode='predict')[0].pred_instances


def build_patch_14(**changes):
    return toys.build(
        backbone__model=PATCH_14,
        backbone__out_indices=(0, 1, 2, 3),
        data_preprocessor__pad_size_divisor=28,
        rpn_head__anchor_generator__strides=STRIDES_14,
        roi_head__bbox_roi_extractor__featmap_strides=STRIDES_14[:4],
        **changes,
    )


def test_frozen_tower_gets_no_gradient_and_stays_in_eval(model):
    model.train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    _, total = losses_of(model)
    total.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    assert not model.backbone.visual.training
    assert model.neck[0].training
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in model.named_parameters() if p.grad is not None} == learning


def test_levels_have_the_strides_of_the_patch(model):
    images = torch.rand(1, 3, 64, 96)
    sizes = [tuple(level.shape[2:]) for level in model.extract_feat(images)]
    assert sizes == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]


def test_clip_map_is_the_towers_own_from_the_taps(model):
    """The last tap through norm and head, so no second pass."""
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        shared = model.backbone.project_map(model.backbone(images)[-1])
        separate = model.backbone.visual.dense(images, 'value')
    torch.testing.assert_close(shared, separate)


def test_one_forward_of_the_tower_per_prediction(model):
    calls = []
    model.backbone.visual.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    predict(model)
    assert len(calls) == 1


@pytest.mark.parametrize('label', [0, 2])
def test_held_out_classes_get_no_gradient(label):
    head = toys.build().roi_head.bbox_head
    scores = torch.randn(6, 5, requires_grad=True)
    labels = torch.tensor([label, label, 4, 4, 1, 4])
    ones = torch.ones(6)
    losses = head.loss(scores, None, None, labels, ones, None, None)
    losses['loss_cls'].backward()
    assert torch.equal(scores.grad[:, 3], torch.zeros(6))
    assert (scores.grad[:, [0, 1, 2, 4]] != 0).all()


def test_classification_loss_by_hand():
    """Weighted by 0.6 for background, averaged over boxes, without the held-out column."""
    head = toys.build().roi_head.bbox_head
    scores = torch.tensor([[1.0, 0.0, 0.0, 9.0, 0.0], [0.0, 0.0, 0.0, 9.0, 2.0]])
    loss = head.loss(scores, None, None, torch.tensor([0, 4]), torch.ones(2), None, None)
    first = torch.tensor([1.0, 0, 0, 0]).log_softmax(0)[0]
    second = torch.tensor([0.0, 0, 0, 2]).log_softmax(0)[3]
    torch.testing.assert_close(loss['loss_cls'], -(first + 0.6 * second) / 2)


def test_held_out_annotations_are_refused(model):
    with pytest.raises(ValueError, match=r"held-out ones: \['tree'\]"):
        losses_of(model, label=3)


def test_scores_are_fused_before_nms(model):
    """Every score that comes out is one of the fused matrix, worked out here from the parts."""
    model.eval()
    model.roi_head.test_cfg.score_thr = 0.0
    model.test_cfg.rcnn.score_thr = 0.0
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0], [10.0, 20.0, 60.0, 60.0]])
    data = model.data_preprocessor(toys.batch(count=1), training=False)
    data['data_samples'][0].proposals = InstanceData(bboxes=boxes)
    with torch.no_grad():
        found = model(**data, mode='predict')[0].pred_instances
        taps = model.backbone(data['inputs'])
        rois = bbox2roi([boxes])
        det = model.roi_head._bbox_forward(model.neck(taps), rois)['cls_score'].softmax(1)
        classifier = model.roi_head.bbox_head.fc_cls
        pooled = pool_vlm_map(model.backbone.project_map(taps[-1]), rois, 8)
        vlm = cosine_logits(pooled, classifier.embeddings, 75.0).softmax(1)
        fused = fuse_scores(det, vlm, torch.tensor([True, True, True, False]), 0.1, 0.8)
    assert len(found) > 0
    for score, label in zip(found.scores, found.labels, strict=True):
        assert (fused[:, label] - score).abs().min() < 1e-6


def test_fixed_detection_temperature(model):
    logits, embeddings = torch.randn(3, 5), torch.randn(3, 128)
    plain = model.roi_head.scores(logits, embeddings)
    model.roi_head.bbox_head.fc_cls.temperature.data.fill_(40.0)
    other = toys.build(roi_head__score_fusion=dict(det_temperature=50.0))
    other.roi_head.bbox_head.fc_cls.temperature.data.fill_(40.0)
    # Logits made with temperature 40, read as if it had been 50.
    torch.testing.assert_close(other.roi_head.scores(logits * 0.8, embeddings), plain)
    assert other.score_settings()['det_temperature'] == 50
    assert model.score_settings()['det_temperature'] == 40


def test_an_image_alone_is_seen_as_in_a_batch(model):
    """Maps come channels-last out of a ViT, which mmcv's RoIAlign does not read as such."""
    model.eval()
    data = model.data_preprocessor(toys.batch(count=2), training=False)
    rois = torch.tensor([[0, 4.0, 4, 40, 40], [0, 10, 20, 60, 60]])
    found = []
    with torch.no_grad():
        for images in (data['inputs'], data['inputs'][:1]):
            levels = model.extract_feat(images)
            assert all(level.is_contiguous() for level in levels)
            found.append(model.roi_head._bbox_forward(levels, rois))
    for key in ('cls_score', 'bbox_pred'):
        torch.testing.assert_close(found[0][key], found[1][key], atol=1e-4, rtol=1e-4)


def test_no_proposal_gives_no_box(model):
    model.eval()
    data = model.data_preprocessor(toys.batch(count=1), training=False)
    data['data_samples'][0].proposals = InstanceData(bboxes=torch.zeros(0, 4))
    with torch.no_grad():
        assert len(model(**data, mode='predict')[0].pred_instances) == 0


def test_another_vocabulary_changes_no_weight(model):
    text = torch.cat([toys.embeddings(5), toys.embeddings(2)])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.roi_head.bbox_head.fc_cls.bank.text_embeddings = text
    model.set_vocabulary(['a', 'b', 'c', 'd', 'boat', 'f'])
    assert model.vocabulary == ('a', 'b', 'c', 'd', 'boat', 'f')
    assert predict(model).labels.max() <= 5
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_patch_14_has_fractional_strides():
    model = build_patch_14()
    images = torch.rand(1, 3, 112, 56)
    with torch.no_grad():
        levels = model.extract_feat(images)
    assert [tuple(x.shape[2:]) for x in levels] == [(32, 16), (16, 8), (8, 4), (4, 2), (2, 1)]
    sizes = [x.shape[2:] for x in levels]
    first = model.rpn_head.prior_generator.grid_priors(sizes, device='cpu')[0]
    centres = (first[::3, :2] + first[::3, 2:]) / 2
    torch.testing.assert_close(centres[:3, 0], torch.tensor([0.0, 3.5, 7.0]))
    _, total = losses_of(model, size=56)
    assert torch.isfinite(total)
    assert predict(model, 56).bboxes.shape[1] == 4


@pytest.mark.parametrize('level', [0, 1, 2, 3])
def test_box_reads_the_same_cells_for_patch_14_and_16(level):
    """The RoI extractor of each config, on one map, with a box at the same cells."""
    from mmdet.models import SingleRoIExtractor

    maps = torch.randn(1, 4, 24, 24)
    pooled = []
    for patch in (14, 16):
        stride = patch / 4 * 2**level
        extractor = SingleRoIExtractor(
            dict(type='RoIAlign', output_size=7, sampling_ratio=0), 4, [stride]
        )
        pooled.append(extractor((maps,), torch.tensor([[0, 3.0, 5, 17, 20]]) * stride))
    torch.testing.assert_close(*pooled, atol=1e-4, rtol=1e-4)


def test_mask_head_is_mmdets_own():
    mask_head = dict(
        type='FCNMaskHead',
        num_convs=1,
        in_channels=32,
        conv_out_channels=8,
        class_agnostic=True,
        num_classes=1,
        loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
    )
    extractor = dict(
        type='SingleRoIExtractor',
        out_channels=32,
        featmap_strides=[2, 4, 8, 16],
        roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
    )
    model = toys.build(roi_head__mask_head=mask_head, roi_head__mask_roi_extractor=extractor)
    found = predict(model)
    assert found.masks.shape[1:] == (64, 64)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(backbone__out_indices=(0, 1, 2, 3)), 'four blocks, the last of them 4'),
        (dict(backbone__out_strides=(2, 4, 8, 16)), 'no out_strides'),
        (dict(rpn_head__anchor_generator__strides=STRIDES_14), r'2.0, 4.0, 8.*tower with patch 8'),
        (dict(roi_head__bbox_roi_extractor__featmap_strides=[4, 8, 16, 32]), 'featmap_strides'),
        (dict(data_preprocessor__pad_size_divisor=8), 'multiple of 16'),
        (dict(roi_head__score_fusion=dict(alpha=1.5)), r'score_fusion.alpha.*\[0, 1\]'),
        (
            dict(
                roi_head__bbox_head__classifier__text=dict(text_embeddings=toys.embeddings(5, 64))
            ),
            'width 128.*image tower, got 64',
        ),
    ],
)
def test_parts_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        toys.build(**changes)


def test_foreign_backbone():
    with pytest.raises(TypeError, match='RefinerCLIP, got ResNet'):
        toys.build(backbone=dict(type='ResNet', depth=18))


def test_checkpoint_of_another_tower(model):
    from mmengine.runner.checkpoint import load_state_dict

    other = build_patch_14().state_dict()
    for load in (model.load_state_dict, lambda state: load_state_dict(model, state)):
        with pytest.raises(ValueError, match=r'of other shapes.*another tower size'):
            load(other)


@pytest.mark.parametrize(
    ('prefix', 'message'),
    [
        ('', r'a backbone alone.*into model\.backbone\.init_cfg\.checkpoint'),
        ('student.', r'stage 2.*refined_\*\.pth beside it goes into model\.backbone\.init_cfg'),
        ('backbone.', r'missing \(first: neck'),
        ('sem_seg_head.predictor.', r'published CAT-Seg.*tools/convert/catseg\.py'),
    ],
)
def test_checkpoint_of_something_else(model, prefix, message):
    visual = model.backbone.visual.state_dict()
    state = {f'{prefix}visual.{name}': value for name, value in visual.items()}
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(state, strict=False)


def test_published_checkpoint_wants_conversion(model):
    state = {'backbone.interpolate1.0.weight': torch.ones(1)}
    with pytest.raises(ValueError, match=r'published F-ViT.*tools/convert/fvit\.py'):
        model.load_state_dict(state, strict=False)


def test_refined_backbone_is_one_key(tmp_path):
    """What stage 2 saves takes the place of the tower; the key is one --cfg-options."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    tower = toys.build().backbone
    for parameter in tower.visual.parameters():
        parameter.data += 1
    torch.save(dict(state_dict=tower.state_dict()), tmp_path / 'refined_epoch_1.pth')
    config = Config(dict(model=toys.model_config()))
    key = 'model.backbone.init_cfg.checkpoint'
    config.merge_from_dict({key: str(tmp_path / 'refined_epoch_1.pth')})
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model)
    model.init_weights()
    state = model.backbone.visual.state_dict()
    assert all(torch.equal(state[name], value) for name, value in tower.visual.state_dict().items())


def test_refined_backbone_of_another_size(tmp_path):
    torch.save(dict(state_dict=build_patch_14().backbone.state_dict()), tmp_path / 'refined.pth')
    model = toys.build(
        backbone__init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'refined.pth'))
    )
    with pytest.raises(ValueError, match=r'refined\.pth'):
        model.init_weights()


def test_bfloat16_trains_and_detects(model):
    """mmcv's RoIAlign has no bfloat16."""
    with torch.autocast('cpu', torch.bfloat16):
        losses, total = losses_of(model)
        assert predict(model).scores.isfinite().all()
    total.backward()
    assert losses['loss_cls'].isfinite()
    assert next(model.neck.parameters()).grad.isfinite().all()
