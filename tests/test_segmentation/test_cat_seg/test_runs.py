"""CAT-Seg by its configs: train, validate, test, resume, SCD; and that it can learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg.models')

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from mmseg.apis import inference_model, init_model
from mmseg.evaluation import IoUMetric

from refineclip.datasets.microworld.coco_layout import write_split
from refineclip.distill import SCDHook
from refineclip.segmentation import MicroworldSegDataset

from .toys import batch, cat_seg

pytestmark = pytest.mark.mm

FOLDER = 'configs/segmentation/cat-seg'
NOVEL = ('tree', 'mushroom', 'key', 'bell')
STEPS = 300  # of the overfit


class RecordHook(Hook):
    """Keep losses and vocabularies."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []
        self.vocabularies: list[tuple[str, tuple[str, ...]]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({key: float(value.detach()) for key, value in outputs.items()})
        self.vocabularies.append(('train', runner.model.vocabulary))

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.vocabularies.append(('val', runner.model.vocabulary))


@pytest.fixture(scope='module')
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('microworld')
    for split, number in (('train', 8), ('val', 2)):
        write_split(root, split, number)
    return root


def small(repo_root: Path, data: Path, work_dir: Path, stem: str, iters: int) -> Config:
    """A microworld config, with a narrower head and fewer and smaller images."""
    cfg = Config.fromfile(repo_root / FOLDER / f'{stem}.py')
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = work_dir.name + str(np.random.rand())  # noqa: NPY002
    cfg.log_level = 'ERROR'
    cfg.merge_from_dict(
        {
            'model.input_size': (64, 64),
            'model.test_cfg.size': (96, 96),
            'model.test_cfg.window': 64,
            'model.test_cfg.stride': 32,
            'model.decode_head.aggregator.embed_dims': 16,
            'model.decode_head.aggregator.window_size': 4,
            'model.decode_head.aggregator.decoder_channels': (16, 16),
            'train_dataloader.batch_size': 2,
            'train_cfg.max_iters': iters,
            'train_cfg.val_interval': iters,
            'default_hooks.checkpoint.interval': 2,
        }
    )
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(data)
    return cfg


def run(cfg: Config) -> tuple[Runner, RecordHook]:
    runner = Runner.from_cfg(cfg)
    record = RecordHook()
    runner.register_hook(record)
    runner.train()
    return runner, record


def test_train_validate_test_and_resume(repo_root, drawn, tmp_path):
    stem = 'cat-seg_microworld-clip_1xb8-300i_microworld-base'
    whole, record = run(small(repo_root, drawn, tmp_path / 'whole', stem, 4))
    base = record.vocabularies[0][1]
    assert len(base) == 18
    assert not set(NOVEL) & set(base)
    assert [phase for phase, _ in record.vocabularies] == ['train'] * 4 + ['val'] * 2
    assert record.vocabularies[-1][1] == MicroworldSegDataset.METAINFO['classes']
    # The model trains on with the training vocabulary.
    assert whole.model.vocabulary == base

    cfg = small(repo_root, drawn, tmp_path / 'resumed', stem, 4)
    cfg.load_from, cfg.resume = str(tmp_path / 'whole' / 'iter_2.pth'), True
    cfg.train_cfg.val_interval = 100
    resumed, record = run(cfg)
    assert len(record.losses) == 2
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name

    cfg = small(repo_root, drawn, tmp_path / 'test', stem, 4)
    cfg.load_from = str(tmp_path / 'whole' / 'iter_4.pth')
    metrics = Runner.from_cfg(cfg).test()
    last = whole.message_hub.get_scalar('val/mIoU').current()
    assert metrics['mIoU'] == pytest.approx(last)


def test_checkpoint_has_the_names_of_the_library(repo_root, drawn, tmp_path):
    """And moves what the recipe says, under the optimizer of the config."""
    stem = 'cat-seg_microworld-clip_1xb8-300i_microworld-base'
    cfg = small(repo_root, drawn, tmp_path / 'work', stem, 2)
    cfg.train_cfg.val_interval = 100
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    state = torch.load(tmp_path / 'work' / 'iter_2.pth', weights_only=False)['state_dict']
    assert not any('parametrizations' in name for name in state)
    for name, value in state.items():
        if name.startswith('decode_head'):
            continue
        if name.endswith('in_proj_weight'):
            pairs = zip(value.chunk(3), before[name].chunk(3), strict=True)
            same = [torch.equal(a, b) for a, b in pairs]
            last = 'resblocks.4' in name and name.startswith('backbone')
            # Queries of the last block of the image tower are not used: weight decay alone.
            assert same[1], name
            assert last or not same[0], name
            assert not same[2], name
        else:
            assert torch.equal(value, before[name]), name
    groups = runner.optim_wrapper.optimizer.param_groups
    rates = sorted({group['initial_lr'] for group in groups})
    assert rates == pytest.approx([1e-5, 1e-3])
    norms = [g for g in groups if g['weight_decay'] == 0]
    assert norms
    assert all(g['initial_lr'] == pytest.approx(1e-3) for g in norms)


def test_a_few_lines_of_python(repo_root, drawn, tmp_path):
    """What docs/segmentation.md shows, with mmseg's own functions."""
    stem = 'cat-seg_microworld-clip_1xb8-300i_microworld-base'
    cfg = small(repo_root, drawn, tmp_path, stem, 1)
    cfg.model.vocabulary = ['fish', 'meadow']
    model = init_model(cfg, device='cpu')
    photo = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    result = inference_model(model, photo)
    assert result.pred_sem_seg.data.shape == (1, 50, 70)
    model.set_vocabulary(['snow', 'night', 'sand'])
    assert inference_model(model, photo).pred_sem_seg.data.max() <= 2


def test_scd_config_logs_its_loss(repo_root, drawn, tmp_path):
    stem = 'cat-seg_microworld-clip-scd_1xb8-300i_microworld-base'
    cfg = small(repo_root, drawn, tmp_path / 'scd', stem, 2)
    cfg.train_cfg.val_interval = 100
    runner, record = run(cfg)
    for losses in record.losses:
        assert losses['loss'] == pytest.approx(losses['loss_bce'] + losses['loss_scd'], rel=1e-5)
        assert losses['loss_scd'] > 0
    assert 'train/loss_scd' in runner.message_hub.log_scalars


def test_scd_regions_lie_on_the_resized_image():
    """Images of 48 px, resized to 32 px for the tower: regions fill the map, and no more."""
    hook = SCDHook(region_sampler=dict(type='GridRegions', max_split=1))
    data = batch()
    boxes = hook._draw_boxes(torch.zeros(2, 3, 32, 32), data['data_samples'])
    assert boxes[:, 1:].min() == 0
    assert boxes[:, 1:].max() == 1


def test_two_halves_are_learned():
    """Two colours, two names: thirty steps are enough."""
    model = cat_seg(vocabulary=('left', 'right'), clip_tuning=None).train()
    optimizer = torch.optim.AdamW(model.decode_head.parameters(), lr=5e-3)
    data = batch(2, side=32, classes=2)
    data['inputs'][..., :16], data['inputs'][..., 16:] = -1, 1
    for sample in data['data_samples']:
        sample.gt_sem_seg.data = (torch.arange(32) >= 16).long().expand(1, 32, 32)
    for _ in range(30):
        optimizer.zero_grad()
        model(**data, mode='loss')['loss_bce'].backward()
        optimizer.step()
    with torch.no_grad():
        labels = model.eval()(**data, mode='predict')[0].pred_sem_seg.data
    accuracy = (labels == data['data_samples'][0].gt_sem_seg.data).float().mean()
    assert accuracy > 0.9


def real_batch(folder: Path, side: int) -> dict:
    """Eight COCO images with panoptic labels as maps of their 16 largest classes."""
    dataset = DATASETS.build(
        dict(
            type='CocoPanopticSegDataset',
            data_root=str(folder),
            ann_file='annotations/panoptic_val2017.json',
            indices=8,
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadSegLabels'),
                dict(type='Resize', scale=(side, side), keep_ratio=False),
                dict(type='PackSegInputs'),
            ],
        )
    )
    items = [dataset[index] for index in range(8)]
    labels = torch.cat([item['data_samples'].gt_sem_seg.data.long() for item in items])
    place = torch.full((256,), 255)
    place[labels[labels < 255].bincount().topk(16).indices] = torch.arange(16)
    for item, own in zip(items, labels, strict=True):
        item['data_samples'].gt_sem_seg.data = place[own][None]
        item['data_samples'].set_metainfo(dict(ori_shape=(side, side)))
    return {key: [item[key] for item in items] for key in items[0]}


@pytest.mark.slow
def test_overfits_eight_real_images(repo_root, shared_data):
    """Real photos and labels; mIoU on the same images above 0.6.

    The tower knows the words of its own world only, which the classes borrow: any names will do
    that differ.
    """
    init_default_scope('mmseg')
    stem = 'cat-seg_microworld-clip_1xb8-300i_microworld-base'
    cfg = Config.fromfile(repo_root / FOLDER / f'{stem}.py').model
    cfg.vocabulary = MicroworldSegDataset.METAINFO['classes'][:16]
    cfg.test_cfg, cfg.clip_tuning = dict(mode='whole'), None
    cfg.input_size = cfg.data_preprocessor.size = (64, 64)
    cfg.decode_head.aggregator.window_size = 4
    model = MODELS.build(cfg).train()
    batch = model.data_preprocessor(real_batch(shared_data / 'coco', 64), training=True)
    towers = [p for n, p in model.named_parameters() if not n.startswith('decode_head')]
    heads = dict(params=model.decode_head.parameters())
    optimizer = torch.optim.AdamW([heads, dict(params=towers, lr=1e-4)], lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [3e-3, 1e-4], total_steps=STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(**batch, mode='loss')['loss_bce'].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    metric = IoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=cfg.vocabulary)
    samples = model.eval()(**batch, mode='predict')
    metric.process({}, [sample.to_dict() for sample in samples])
    assert metric.evaluate(8)['mIoU'] > 60
