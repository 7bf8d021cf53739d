"""Plans of detectors and segmentors: one image is run and counted."""

from __future__ import annotations

import json

import pytest

pytest.importorskip('mmdet.models')
pytest.importorskip('mmseg.models')

from mmengine.config import Config

from refineclip.commands.plan import main
from refineclip.commands.plan.command import count_images
from refineclip.commands.plan.host import build_host, host_cost, num_classes

pytestmark = pytest.mark.mm

FVIT = 'configs/detection/toy/fvit_microworld-clip_1xb4-30i_ov-coco-128.py'
CAT_SEG = 'configs/segmentation/cat-seg/cat-seg_microworld-clip_1xb8-300i_microworld-base.py'


def test_frozen_detector(repo_root, tmp_path, capsys):
    file = tmp_path / 'plan.json'
    options = ('--images', '64', '--peak-tflops', '1', '--mfu', '1', '--json', str(file))
    assert main([str(repo_root / FVIT), *options]) == 0
    result = json.loads(file.read_text())
    flops = sum(result['flops_per_image'].values())
    assert result['images_per_second'] == pytest.approx(1e12 / flops)
    assert result['seconds'] == pytest.approx(result['steps'] * 4 * flops / 1e12)
    text = capsys.readouterr().out
    assert 'one image with random weights was counted' in text
    assert 'memory per GPU' not in text
    assert 'GPU-hours' in text


def test_attention_is_counted(repo_root):
    """A frozen tower of 5 blocks at N tokens of width W: 2 N (12 W^2 + 2 N W) FLOPs a block."""
    config = Config.fromfile(repo_root / FVIT)
    visual = build_host(config).backbone.visual
    height, width = config.image_size
    num_tokens = (height // visual.patch_size) * (width // visual.patch_size) + 1
    blocks = 2 * num_tokens * (12 * visual.width**2 + 2 * num_tokens * visual.width)
    # The last block attends nowhere (value mode), so one less is the least.
    least = (visual.num_blocks - 1) * blocks
    config.train_dataloader.batch_size = 1
    assert host_cost(config)['flops_per_image']['forward'] > least


def test_segmentor_learns_in_its_towers(repo_root):
    config = Config.fromfile(repo_root / CAT_SEG)
    cost = host_cost(config)
    assert cost['image_size'] == list(config.image_size)
    assert cost['flops_per_image']['backward'] > cost['flops_per_image']['forward']


def test_no_tokenizer_is_asked_where_all_positions_count(repo_root):
    """SigLIP's needs a download, and what its text tower computes depends on no word."""
    config = Config.fromfile(repo_root / CAT_SEG)
    text = dict(context_length=8, vocab_size=9, width=16, heads=2, layers=1, no_causal_mask=True)
    config.model.text_encoder.model = dict(
        embed_dim=build_host(config).backbone.embed_dim,
        vision_cfg=dict(width=16, layers=1, head_width=8, image_size=16, patch_size=8),
        text_cfg=dict(**text, pool_type='last', hf_tokenizer_name='none/none'),
    )
    model = build_host(config)
    assert model.embed_vocabulary().shape == (22, model.backbone.embed_dim)


def test_images_of_published_data_sets():
    coco = dict(data_root='x', ann_file='z/instances_train2017_seen_2_65_cat.json')
    dataset = Config({**coco, 'data_prefix': dict(img='train2017/')})
    assert count_images(dataset, None)[0] == 107_761
    stuff = dict(data_root='x', data_prefix=dict(img_path='images/train2017', seg_map_path='y'))
    assert count_images(Config(stuff), None)[0] == 118_287
    assert count_images(Config(dict(data_root='x', data_prefix={})), None)[0] is None


@pytest.mark.parametrize(
    ('config', 'count'),
    [
        (CAT_SEG, 22),
        (
            'configs/segmentation/cat-seg/cat-seg_openai-vit-b16_1xb4-80k_coco-stuff164k-384x384.py',
            171,
        ),
    ],
)
def test_words_of_the_training_data(repo_root, config, count):
    assert num_classes(Config.fromfile(repo_root / config)) == count
