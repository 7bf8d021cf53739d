"""CAT-Seg as mmseg sees it: losses, windows, labels, vocabulary."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmseg.models')

from mmengine.registry import MODELS
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample

from benchmarks import cat_seg_reference as reference
from refineclip.encoders import RefinerCLIP
from refineclip.segmentation.cat_seg.window_inference import (
    ViewLogits,
    WholePlan,
    WindowPlan,
    predict_labels,
    predict_probabilities,
)

from .toys import NAMES, TOWER, batch, cat_seg, cat_seg_cfg, randomize

pytestmark = pytest.mark.mm

MANY = [f'thing {i}' for i in range(9)]  # pad_len of the toys is 6


@pytest.fixture(scope='module')
def model():
    return cat_seg().eval()


@pytest.fixture(autouse=True)
def usual_names(request):
    if 'model' in request.fixturenames:
        request.getfixturevalue('model').set_vocabulary(NAMES)


def assert_most_probable(labels, probabilities):
    """Where two classes are equal up to rounding, either may be the label."""
    chosen = probabilities.gather(0, labels)
    assert (chosen >= probabilities.amax(0) - 1e-5).all()
    assert (labels == probabilities.argmax(0)).float().mean() > 0.99


def test_loss_reaches_head_and_towers():
    model = cat_seg().train()
    losses = model(**batch(), mode='loss')
    assert list(losses) == ['loss_bce']
    losses['loss_bce'].backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    towers = [
        name.removesuffix('.original0')
        for name, p in model.named_parameters()
        if p.requires_grad and name.endswith('original0')
    ]
    assert sum(name.startswith('backbone.') for name in towers) == 3
    assert sum(name.startswith('text_encoder.') for name in towers) == 2
    assert not any('logit_scale' in name for name, _ in model.named_parameters())


def test_loss_is_that_of_upsampled_logits():
    model = cat_seg().train()
    data = batch()
    logits = F.interpolate(model(**data, mode='tensor'), (48, 48), mode='bilinear')
    labels = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
    expected = F.binary_cross_entropy_with_logits(
        logits, F.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    )
    torch.testing.assert_close(model(**data, mode='loss')['loss_bce'], expected)


def test_half_precision_and_recomputation_give_the_same_loss():
    data, losses, gradients = batch(), [], []
    for with_cp, dtype in ((False, None), (True, None), (False, torch.bfloat16)):
        model = cat_seg().train()
        model.backbone.visual.with_cp = with_cp
        with torch.autocast('cpu', dtype=dtype, enabled=dtype is not None):
            loss = model(**data, mode='loss')['loss_bce']
        loss.backward()
        assert loss.dtype == torch.float32
        losses.append(loss.item())
        weight = model.backbone.visual.blocks[1].attn.parametrizations.in_proj_weight.original2
        gradients.append(weight.grad)
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-7, rtol=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=0.02)
    assert F.cosine_similarity(gradients[2].flatten(), gradients[0].flatten(), dim=0) > 0.9


def test_one_pass_of_each_tower_per_step(model):
    calls = []
    towers = (model.backbone, model.text_encoder.text.transformer)
    handles = [
        tower.register_forward_hook(lambda module, *_: calls.append(type(module).__name__))
        for tower in towers
    ]
    model(**batch(3), mode='loss')
    assert sorted(calls) == ['RefinerCLIP', 'Transformer']
    calls.clear()
    with torch.no_grad():
        model(**batch(3), mode='predict')
        model(**batch(3), mode='predict')
    # Each of five views once, for two times three images; the text of a vocabulary once.
    assert calls.count('RefinerCLIP') == 30
    assert calls.count('Transformer') <= 1
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize('names', [['cat'], NAMES, MANY])
@torch.no_grad()
def test_prediction_equals_the_written_out_one(model, names):
    """One class, padding, and more classes than are run."""
    model.set_vocabulary(names)
    images = torch.randn(2, 3, 40, 56)
    samples = [SegDataSample(metainfo=dict(ori_shape=shape)) for shape in ((40, 56), (61, 33))]
    expected = [
        reference.segment(model, image, model.embed_vocabulary(), size, 64, 48, 16)
        for image, size in zip(images, ((40, 56), (61, 33)), strict=True)
    ]
    for sample, probabilities in zip(model(images, samples, mode='predict'), expected, strict=True):
        assert 'seg_logits' not in sample
        labels = sample.pred_sem_seg.data
        assert labels.dtype == torch.int64
        assert_most_probable(labels, probabilities)
    model.return_logits = True
    for sample, probabilities in zip(model(images, samples, mode='predict'), expected, strict=True):
        torch.testing.assert_close(sample.seg_logits.data, probabilities, atol=1e-5, rtol=0)
        assert_most_probable(sample.pred_sem_seg.data, probabilities)
    model.return_logits = False


@pytest.mark.parametrize('maps_per_pass', [1, 7, 1000])
@torch.no_grad()
def test_views_per_pass_change_nothing(model, maps_per_pass):
    image = torch.randn(3, 48, 48)
    views = model.plan.views(image)
    text = model.embed_vocabulary()
    expected = model.score_views(views, text).logits
    calls = []
    handle = model.backbone.register_forward_hook(lambda *_: calls.append(1))
    model.maps_per_pass = maps_per_pass
    torch.testing.assert_close(
        model.score_views(views, text).logits, expected, atol=1e-5, rtol=1e-5
    )
    handle.remove()
    model.maps_per_pass = None
    assert len(calls) == -(-5 // max(1, maps_per_pass // len(text)))


def test_default_views_per_pass(model):
    """One on a CPU; 256 maps elsewhere, of the classes that are run (pad_len is 6)."""
    on_gpu = torch.device('cuda')
    assert model._views_per_pass(3, torch.device('cpu')) == 1
    assert [model._views_per_pass(n, on_gpu) for n in (3, 6, 900)] == [85, 42, 42]


@torch.no_grad()
def test_class_chunks_change_nothing():
    """Views that ran different classes; every chunk size."""
    plan = WindowPlan((8, 8), 6, 2)
    classes = torch.stack([torch.randperm(7)[:4].sort().values for _ in range(5)])
    views = ViewLogits(torch.randn(5, 4, 6, 6), classes, num_classes=7)
    whole = predict_probabilities(views, plan, (9, 5), chunk=7)
    full = torch.full((5, 7, 6, 6), -100.0)
    for row, index, logits in zip(full, classes, views.logits, strict=True):
        row[index] = logits
    everything = ViewLogits(full, None, num_classes=7)
    torch.testing.assert_close(predict_probabilities(everything, plan, (9, 5), chunk=7), whole)
    for chunk in (1, 2, 3, 7):
        torch.testing.assert_close(predict_probabilities(views, plan, (9, 5), chunk), whole)
        labels = predict_labels(views, plan, (9, 5), chunk)
        assert torch.equal(labels, whole.argmax(0))
        assert torch.equal(predict_labels(everything, plan, (9, 5), chunk), labels)


@pytest.mark.parametrize('chunk', [1, 2, 4])
def test_first_of_equal_classes_wins(chunk):
    """As argmax over all classes does: classes 1 and 3 are equal and best everywhere."""
    logits = torch.randn(1, 4, 3, 3)
    logits[:, 1] = logits[:, 3] = 9
    labels = predict_labels(ViewLogits(logits, None, 4), WholePlan(), (3, 3), chunk)
    assert labels.unique().tolist() == [1]
    ran = ViewLogits(logits[:, 1:], torch.tensor([[1, 2, 3]]), 4)
    assert predict_labels(ran, WholePlan(), (3, 3), chunk).unique().tolist() == [1]


def test_windows_end_at_the_border():
    plan = WindowPlan((640, 640), 384, 256)
    assert [box[:2] for box in plan.boxes] == [(0, 0), (0, 256), (256, 0), (256, 256)]
    image = torch.rand(3, 640, 640)
    views = plan.views(image)
    assert views.shape == (5, 3, 384, 384)
    assert torch.equal(views[3], image[:, 256:, 256:])
    corners = [box[:2] for box in WindowPlan((8, 12), 4, 4).boxes]
    assert corners == [(0, 0), (0, 4), (0, 8), (4, 0), (4, 4), (4, 8)]
    with pytest.raises(ValueError, match='windows that end at the border'):
        WindowPlan((640, 640), 384, 200)
    with pytest.raises(ValueError, match='windows that end at the border'):
        WindowPlan((300, 640), 384, 256)


def test_overlaps_are_averaged_and_then_halved_with_the_global_view():
    """Three columns, windows of two: the middle one lies in both."""
    logits = torch.tensor([[0.0, 0.0], [torch.logit(torch.tensor(0.9))] * 2, [-100.0, -100.0]])
    logits = logits[:, None, None].expand(3, 1, 2, 2)
    merged = WindowPlan((2, 3), 2, 1).merge(logits)
    torch.testing.assert_close(merged[0, 0], torch.tensor([0.25, 0.35, 0.45]))


@torch.no_grad()
def test_whole_mode():
    model = cat_seg(test_cfg=dict(mode='whole', return_logits=True)).eval()
    data = batch(1)
    sample = model(**data, mode='predict')[0]
    logits = model(data['inputs'], mode='tensor').sigmoid()
    expected = F.interpolate(logits, (48, 48), mode='bilinear')[0]
    torch.testing.assert_close(sample.seg_logits.data, expected)
    assert isinstance(model.plan, WholePlan)


@torch.no_grad()
def test_padding_is_cut_and_flips_are_undone(model):
    image = torch.randn(1, 3, 40, 48)
    plain = model(image, [SegDataSample(metainfo=dict(ori_shape=(40, 48)))], mode='predict')
    meta = dict(ori_shape=(40, 48), padding_size=(0, 16, 0, 8))
    padded = model(F.pad(image, (0, 16, 0, 8)), [SegDataSample(metainfo=meta)], mode='predict')
    labels = plain[0].pred_sem_seg.data
    assert torch.equal(padded[0].pred_sem_seg.data, labels)
    for direction, axis in (('horizontal', 3), ('vertical', 2)):
        meta = dict(ori_shape=(40, 48), flip=True, flip_direction=direction)
        flipped = model(image.flip(axis), [SegDataSample(metainfo=meta)], mode='predict')
        # As the unflipped prediction of the flipped image, flipped back.
        raw = model(
            image.flip(axis), [SegDataSample(metainfo=dict(ori_shape=(40, 48)))], mode='predict'
        )
        assert torch.equal(flipped[0].pred_sem_seg.data, raw[0].pred_sem_seg.data.flip(axis - 1))


@torch.no_grad()
def test_metric_of_mmseg_reads_the_result(model):
    data = batch(2)
    samples = model(**data, mode='predict')
    for sample in samples:
        sample.gt_sem_seg.data = sample.pred_sem_seg.data.clone()
    metric = IoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=NAMES)
    metric.process({}, [sample.to_dict() for sample in samples])
    assert metric.evaluate(2)['mIoU'] == 100


@torch.no_grad()
def test_another_vocabulary(model, tmp_path):
    image = torch.randn(1, 3, 48, 48)
    before = model(image, mode='predict')[0].pred_sem_seg.data
    model.set_vocabulary(('zebra', *NAMES))
    after = model(image, mode='tensor')
    assert after.shape[1] == 4
    file = tmp_path / 'names.txt'
    file.write_text('\n'.join(NAMES))
    model.set_vocabulary(file)
    assert model.vocabulary == NAMES
    assert torch.equal(model(image, mode='predict')[0].pred_sem_seg.data, before)


def test_refined_weights_are_loaded(tmp_path):
    """What stage 2 saves: the visual tower, under the library's names."""
    refined = RefinerCLIP(TOWER)
    torch.save(refined.state_dict(), tmp_path / 'refined.pth')
    cfg = cat_seg_cfg()
    cfg['backbone'].update(
        dense_mode='value',
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'refined.pth')),
    )
    model = MODELS.build(cfg)
    model.init_weights()
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(model.extract_feat(images)[0], refined.dense(images))


def test_refined_weights_of_another_image_size_are_one_key(tmp_path):
    """A tower of 16 px natively, as stage 2 saves it, at 32 px: what DFN and SigLIP configs do."""
    tower = {**TOWER, 'vision_cfg': {**TOWER['vision_cfg'], 'image_size': 16}}
    refined = RefinerCLIP(tower, dense_mode='value-cls')
    torch.save(refined.state_dict(), tmp_path / 'refined.pth')
    cfg = cat_seg_cfg(model=tower)
    # The place that every config has for it.
    cfg['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=None)
    MODELS.build(cfg).init_weights()
    cfg['backbone']['init_cfg']['checkpoint'] = str(tmp_path / 'refined.pth')
    model = MODELS.build(cfg)
    model.init_weights()
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(model.extract_feat(images)[0], refined.dense(images))


SIGLIP = 'timm/vit_base_patch16_siglip_224'
SIGLIP_KWARGS = dict(img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2)


def siglip_cfg(dense_mode):
    """A toy SigLIP tower: no class token, an attention pool; beside a text tower of its width."""
    cfg = cat_seg_cfg()
    cfg['backbone'].update(model=SIGLIP, model_kwargs=SIGLIP_KWARGS, dense_mode=dense_mode)
    cfg['text_encoder']['model'] = {**TOWER, 'embed_dim': 16}
    return cfg


def test_towers_without_class_token_keep_each_tokens_residual():
    with pytest.raises(ValueError, match=r"on the class token, and this tower has none .*'value'"):
        MODELS.build(siglip_cfg('value-cls'))
    model = randomize(MODELS.build(siglip_cfg('value')))
    assert model.backbone.visual.num_prefix_tokens == 0
    images = torch.randn(2, 3, 32, 32)
    dense, intermediate = model.extract_feat(images)
    assert [x.shape for x in intermediate] == [(2, 16, 4, 4)] * 2
    # By hand: each token's own residual, its value, the MLP, and the pool over this token alone.
    visual = model.backbone.visual
    tokens, grid = visual.embed(images)
    tokens = visual.run(tokens, grid, 0, 2)
    block, pool = visual.trunk.blocks[2], visual.trunk.attn_pool
    value = block.attn.qkv(block.norm1(tokens))[..., 32:]
    tokens = tokens + block.attn.proj(value)
    tokens = tokens + block.mlp(block.norm2(tokens))
    normed = visual.trunk.norm(tokens)
    pooled = pool.proj(pool.kv(normed)[..., 16:])
    pooled = pooled + pool.mlp(pool.norm(pooled))
    expected = pooled.transpose(1, 2).unflatten(2, grid)
    torch.testing.assert_close(dense, expected, atol=1e-5, rtol=1e-5)
    model.train()(**batch(), mode='loss')['loss_bce'].backward()
    learnt = [n for n, p in model.backbone.named_parameters() if p.grad is not None]
    assert any('attn.' in name for name in learnt)
    assert not any('attn_pool' in name for name in learnt)


@pytest.mark.parametrize(
    ('prefix', 'message'),
    [
        ('', r'this CATSeg, got a backbone alone.*into model\.backbone\.init_cfg\.checkpoint'),
        ('student.', r'stage 2.*refined_\*\.pth beside it goes into model\.backbone\.init_cfg'),
        ('encoder.', r'one of another model'),
        ('sem_seg_head.predictor.', r'published CAT-Seg.*tools/convert/catseg\.py'),
        ('roi_head.', r'a checkpoint of a detector'),
    ],
)
def test_checkpoint_of_something_else(prefix, message, tmp_path):
    """mmengine would warn, and test the random weights of the head."""
    from mmengine.runner import load_checkpoint

    model = cat_seg()
    state = {
        f'{prefix}{name.removeprefix("backbone.")}': value
        for name, value in model.state_dict().items()
        if name.startswith('backbone.')
    }
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=message):
        load_checkpoint(model, str(tmp_path / 'a.pth'))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    load_checkpoint(cat_seg(), str(tmp_path / 'a.pth'))


def test_text_tower_takes_its_own_checkpoint_only(tmp_path):
    state = cat_seg().text_encoder.state_dict()
    for name, content in (('a.pth', state), ('b.pth', {'visual.model.proj': torch.ones(1)})):
        torch.save(content, tmp_path / name)
    cfg = cat_seg_cfg()
    cfg['text_encoder']['init_cfg'] = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    model = MODELS.build(cfg)
    model.init_weights()
    assert torch.equal(model.text_encoder.text.ln_final.bias, state['text.ln_final.bias'])
    cfg['text_encoder']['init_cfg']['checkpoint'] = str(tmp_path / 'b.pth')
    with pytest.raises(ValueError, match='fills this PromptedTextEncoder'):
        MODELS.build(cfg).init_weights()


def test_frozen_towers_do_not_learn():
    cfg = cat_seg_cfg()
    cfg['backbone']['frozen'] = cfg['text_encoder']['frozen'] = True
    model = MODELS.build(cfg).train()
    model(**batch(), mode='loss')['loss_bce'].backward()
    towers = [p for n, p in model.named_parameters() if not n.startswith('decode_head')]
    assert not any(p.requires_grad or p.grad is not None for p in towers)
    cfg['backbone']['frozen'] = False
    trained = MODELS.build({**cfg, 'clip_tuning': None})
    assert all(p.requires_grad for p in trained.backbone.visual.blocks.parameters())


def test_images_are_resized_for_the_tower():
    model = cat_seg(input_size=None)
    with pytest.raises(ValueError, match='multiples of the patch size'):
        model.extract_feat(torch.randn(1, 3, 45, 45))
    image, intermediate = cat_seg().extract_feat(torch.randn(1, 3, 45, 45))
    assert image.shape == (1, 12, 4, 4)
    assert [x.shape for x in intermediate] == [(1, 16, 4, 4)] * 2


@pytest.mark.parametrize(
    ('names', 'message'),
    [((), 'one class name or more'), (('a', ' '), 'empty ones'), (('a', 'a'), 'more than once')],
)
def test_wrong_vocabularies(model, names, message):
    with pytest.raises(ValueError, match=message):
        model.set_vocabulary(names)


def test_no_vocabulary():
    model = cat_seg(vocabulary=None)
    with pytest.raises(ValueError, match='empty vocabulary; call set_vocabulary'):
        model(**batch(), mode='loss')


def test_wrong_masks(model):
    with pytest.raises(ValueError, match=r'masks of the size of the images \(48, 48\)'):
        model(torch.randn(2, 3, 48, 48), batch(side=32)['data_samples'], mode='loss')
    with pytest.raises(ValueError, match='vocabulary has fewer classes'):
        model(**batch(classes=5), mode='loss')


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (dict(test_cfg=dict(mode='slide')), ValueError, "'windows' or 'whole'"),
        (dict(test_cfg=dict(mode='whole', window=3)), ValueError, 'no size, window or stride'),
        (dict(test_cfg=dict(mode='windows', size=64)), ValueError, 'size, window and stride'),
        (dict(pretrained='openai'), ValueError, 'named in backbone and text_encoder'),
        (dict(clip_tuning='all'), ValueError, "'query-value' or None"),
        (dict(backbone=dict(type='PixelBCELoss')), TypeError, 'RefinerCLIP, got PixelBCELoss'),
        (dict(out_indices=(0, 1)), ValueError, 'two intermediate blocks'),
        (dict(out_indices=(0, 1, 3)), ValueError, r'block indices in \[0, 2\]'),
    ],
)
def test_wrong_configs(change, error, message):
    with pytest.raises(error, match=message):
        MODELS.build(cat_seg_cfg(**change))


def test_resized_maps_are_refused():
    cfg = cat_seg_cfg()
    cfg['backbone']['out_channels'] = (8, 8, 8)
    with pytest.raises(ValueError, match='without out_channels'):
        MODELS.build(cfg)
