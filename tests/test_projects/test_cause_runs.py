"""CAUSE end to end on drawn data in the published layouts, through the project's own configs."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from PIL import Image

from projects.cause.cause import Cityscapes27, CocoStuff27
from projects.cause.cause.classes27 import CITYSCAPES_27, COCO_STUFF_27
from projects.cause.cause.datasets import five_crop_box

SIZE = 32
TOWER = dict(
    embed_dim=16,
    vision_cfg=dict(image_size=SIZE, layers=3, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=8, vocab_size=49408, width=16, heads=2, layers=1),
)
STEMS = {
    'coco': {
        'codebook': 'cause-codebook_eva02-vit-b16_1xb16-1e_cocostuff27-320',
        'tr': 'cause-tr_eva02-vit-b16_1xb16-2e_cocostuff27-320',
        'tr-cluster': 'cause-tr-cluster_eva02-vit-b16_1xb16-5e_cocostuff27-320',
        'mlp': 'cause-mlp_eva02-vit-b16_1xb16-2e_cocostuff27-320',
        'mlp-cluster': 'cause-mlp-cluster_eva02-vit-b16_1xb16-5e_cocostuff27-320',
    },
    'cityscapes': {
        'codebook': 'cause-codebook_eva02-vit-b16_1xb16-1e_cityscapes27-320',
        'tr': 'cause-tr_eva02-vit-b16_1xb16-2e_cityscapes27-320',
        'tr-cluster': 'cause-tr-cluster_eva02-vit-b16_1xb16-5e_cityscapes27-320',
    },
}
# Three bands of one colour each; label ids as the published maps write them.
COLOURS = [(40, 90, 200), (60, 160, 60), (150, 120, 90)]
COCO_VALUES = [156, 123, 148]  # sky-other, grass, road: category id - 1
CITY_VALUES = [23, 21, 7]  # sky, vegetation, road


def draw(values: list[int], seed: int, size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Draw a picture of three noisy bands, and its label map."""
    generator = np.random.default_rng(seed)
    width, height = size
    bands = np.sort(generator.integers(height // 4, 3 * height // 4, 2))
    index = np.searchsorted(bands, np.arange(height), side='right')[:, None].repeat(width, 1)
    noise = generator.normal(0, 12, (height, width, 3))
    picture = np.clip(np.array(COLOURS)[index] + noise, 0, 255).astype(np.uint8)
    labels = np.array(values, dtype=np.uint8)[index]
    labels[:2, :2] = 255
    return Image.fromarray(picture), Image.fromarray(labels)


@pytest.fixture(scope='module')
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('coco')
    for split, count in (('train2017', 2), ('val2017', 2)):
        for folder in (root / split, root / 'stuffthingmaps' / split):
            folder.mkdir(parents=True)
        for index in range(count):
            picture, labels = draw(COCO_VALUES, 10 * count + index, (60 + 4 * index, 48))
            picture.save(root / split / f'{index:012d}.jpg')
            labels.save(root / 'stuffthingmaps' / split / f'{index:012d}.png')
    return root


@pytest.fixture(scope='module')
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('cityscapes')
    for split, city, count in (('train', 'aachen', 2), ('val', 'ulm', 2)):
        for kind in ('leftImg8bit', 'gtFine'):
            (root / kind / split / city).mkdir(parents=True)
        for index in range(count):
            name = f'{city}_{index:06d}_000019'
            picture, labels = draw(CITY_VALUES, 10 * count + index, (96, 48))
            picture.save(root / 'leftImg8bit' / split / city / f'{name}_leftImg8bit.png')
            labels.save(root / 'gtFine' / split / city / f'{name}_gtFine_labelIds.png')
    return root


def toy_config(
    repo_root: Path, stem: str, data: Path, work: Path, checkpoint: Path | None
) -> Config:
    """The real config with a toy tower, small crops and few concepts."""
    cfg = Config.fromfile(repo_root / f'projects/cause/configs/{stem}.py')
    cfg.work_dir, cfg.experiment_name = str(work), uuid.uuid4().hex
    cfg.log_level, cfg.visualizer = 'WARNING', None
    options: dict[str, Any] = {
        'model.encoder.pretrained': None,
        'model.num_concepts': 12,
    }
    if checkpoint is not None:
        options['model.checkpoint'] = str(checkpoint)
    if cfg.model.type == 'CauseFrontDoor':
        options |= {'model.projection_dims': 24, 'model.bank_size': 64, 'model.num_anchors': 8}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if loader in cfg:
            options |= {
                f'{loader}.num_workers': 0,
                f'{loader}.persistent_workers': False,
                f'{loader}.batch_size': 4,
                f'{loader}.dataset.data_root': str(data),
                f'{loader}.dataset.image_size': SIZE,
            }
    if cfg.model.type == 'CauseClusterProbe':
        options |= {'model.num_clusters': 3}
        cfg.val_evaluator.num_clusters = cfg.test_evaluator.num_clusters = 3
    cfg.model.encoder.model = TOWER
    cfg.merge_from_dict(options)
    return cfg


def train(cfg: Config) -> Runner:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def frozen_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.encoder.state_dict().items()}


@pytest.mark.parametrize(('kind', 'head'), [('coco', 'mlp'), ('cityscapes', 'tr')])
def test_three_stages_train_and_evaluate(
    repo_root: Path, request: pytest.FixtureRequest, tmp_path: Path, kind: str, head: str
) -> None:
    data, stems = request.getfixturevalue(kind), STEMS[kind]

    first = toy_config(repo_root, stems['codebook'], data, tmp_path / '1', None)
    runner = train(first)
    assert len(runner.train_dataloader.dataset) == 5 * 2
    encoder = frozen_state(runner.model)
    codebook = runner.model.codebook.concepts.detach().clone()
    checkpoint = tmp_path / '1/epoch_1.pth'

    second = toy_config(repo_root, stems[head], data, tmp_path / '2', checkpoint)
    runner = train(second)
    model = runner.model
    assert torch.equal(model.codebook.concepts, codebook)
    assert len(model.bank.content()[0]) > 0
    pairs = list(zip(model.student.parameters(), model.teacher.module.parameters(), strict=True))
    assert all(not torch.equal(a, b) for a, b in pairs)  # the average lags behind
    assert all(p.grad is None for p in model.teacher.parameters())
    trained_head = {k: v.clone() for k, v in model.student.head.state_dict().items()}

    checkpoint = tmp_path / '2/epoch_2.pth'
    third = toy_config(repo_root, stems[f'{head}-cluster'], data, tmp_path / '3', checkpoint)
    runner = train(third)
    assert torch.equal(runner.model.codebook.concepts, codebook)
    for name, value in runner.model.head.state_dict().items():
        assert torch.equal(value, trained_head[name]), name
    for name, value in frozen_state(runner.model).items():
        assert torch.equal(value, encoder[name]), name  # through all stages

    # What `tools/test.py` does: the earlier files are not needed any more.
    test = toy_config(repo_root, stems[f'{head}-cluster'], data, tmp_path / '3', None)
    test.load_from = str(tmp_path / '3/epoch_5.pth')
    test.model.checkpoint = None
    scores = Runner.from_cfg(test).test()
    assert scores['cause/classes'] == 3
    assert 0 < scores['cause/mIoU'] <= scores['cause/pAcc'] <= 100
    assert scores['cause/pAcc'] > 45  # a constant map of the largest band gets less


def test_largest_band_gets_less_than_45_percent(coco: Path, cityscapes: Path) -> None:
    for dataset in (
        CocoStuff27(str(coco), 'val2017', SIZE, with_labels=True),
        Cityscapes27(str(cityscapes), 'val', SIZE, with_labels=True),
    ):
        labels = torch.cat([dataset[i]['labels'].flatten() for i in range(len(dataset))])
        counts = labels[labels != 255].bincount()
        assert counts.max() / counts.sum() < 0.45


def build(repo_root: Path, stem: str, **options: Any) -> Any:
    init_default_scope('mmengine')
    cfg = toy_config(repo_root, STEMS['coco'][stem], Path(), Path(), None)
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    return MODELS.build(cfg.model)


def test_another_encoder_is_refused(repo_root: Path, tmp_path: Path) -> None:
    stage1 = build(repo_root, 'codebook')
    path = tmp_path / 'stage1.pth'
    torch.save(dict(state_dict=stage1.state_dict()), path)
    stage2 = build(repo_root, 'tr', checkpoint=str(path))
    with pytest.raises(ValueError, match='give both stages the same encoder config'):
        stage2.init_weights()
    stage2.encoder.load_state_dict(stage1.encoder.state_dict())
    stage2._is_init = False
    stage2.init_weights()
    assert torch.equal(stage2.codebook.concepts, stage1.codebook.concepts)


def test_training_needs_the_stage_before(repo_root: Path) -> None:
    for stem, owner in (('tr', 'CauseFrontDoor'), ('mlp-cluster', 'CauseClusterProbe')):
        model = build(repo_root, stem, checkpoint=None)
        with pytest.raises(ValueError, match=f'the stage before {owner}, got None'):
            model.init_weights()


def test_bad_settings_are_sentences(repo_root: Path) -> None:
    with pytest.raises(ValueError, match=r"expected one of .*, got 'euclid'"):
        build(repo_root, 'tr-cluster', loss='euclid')
    with pytest.raises(ValueError, match='num_clusters: expected 2 or more, got 1'):
        build(repo_root, 'tr-cluster', num_clusters=1)
    with pytest.raises(ValueError, match='negative_threshold <= positive_threshold'):
        build(repo_root, 'tr', negative_threshold=0.9)
    with pytest.raises(ValueError, match=r'encoder.out_channels: expected none'):
        build(repo_root, 'codebook', **{'encoder.out_channels': [4]})
    with pytest.raises(NotImplementedError, match='evaluate a CauseClusterProbe'):
        build(repo_root, 'codebook')(torch.rand(1, 3, SIZE, SIZE), mode='predict')
    probe = build(repo_root, 'tr-cluster', head=None, num_clusters=27)
    with pytest.raises(ValueError, match='expected at least 27 tokens in a batch'):
        probe.loss(torch.rand(1, 16, 16))


def test_clusters_follow_the_centres(repo_root: Path) -> None:
    probe = build(repo_root, 'tr-cluster', head=None, num_clusters=2).eval()
    images = torch.rand(1, 3, SIZE, SIZE)
    tokens, grid = probe.tokens(images)
    assert grid == (4, 4)
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(1, 16))
    probe.set_centres(torch.stack([tokens[0, 5], -tokens[0, 5]]))
    clusters = probe(images, mode='predict')[0]['clusters']
    assert clusters.shape == (SIZE, SIZE)
    assert clusters[12, 12] == 0  # the middle of token 5 (row 1, column 1 of 8 px)
    flipped = build(repo_root, 'tr-cluster', head=None, num_clusters=2).eval()
    flipped.load_state_dict(probe.state_dict())
    flipped.set_centres(probe.centres.flip(0))
    assert torch.equal(flipped(images, mode='predict')[0]['clusters'], 1 - clusters)


def test_the_first_batch_places_the_centres_once(repo_root: Path) -> None:
    probe = build(repo_root, 'tr-cluster', head=None, num_clusters=3)
    tokens = torch.nn.functional.normalize(torch.randn(2, 16, 16), dim=-1)
    probe.loss(tokens)
    centres = probe.centres.detach().clone()
    assert all((tokens.flatten(0, 1) == centre).all(dim=1).any() for centre in centres)
    assert len(centres.unique(dim=0)) == 3
    # A resumed run finds `started` in its checkpoint and goes on from its own centres.
    resumed = build(repo_root, 'tr-cluster', head=None, num_clusters=3)
    resumed.load_state_dict(probe.state_dict())
    resumed.loss(tokens.flip(-1))
    assert torch.equal(resumed.centres, centres)
    nearest = (tokens @ centres.T).amax(-1).mean()
    torch.testing.assert_close(probe.loss(tokens)['loss_cluster'], 1 - nearest)


def test_earlier_blocks_can_be_tapped(repo_root: Path) -> None:
    model = build(repo_root, 'codebook', **{'encoder.out_indices': [1]})
    assert model.token_dims == 16
    assert model(torch.rand(2, 3, SIZE, SIZE), mode='tensor').shape == (2, 16, 16)


def test_modularity_can_train_the_probe(repo_root: Path) -> None:
    probe = build(repo_root, 'tr-cluster', head=None, num_clusters=3, loss='modularity')
    tokens = torch.nn.functional.normalize(torch.randn(2, 16, 16), dim=-1)
    probe.loss(tokens)['loss_cluster'].backward()
    assert probe.centres.grad is not None
    assert probe.centres.grad.abs().max() > 0


def test_cached_tokens_are_the_tokens(repo_root: Path, coco: Path, tmp_path: Path) -> None:
    model = build(repo_root, 'codebook', cache_dir=str(tmp_path))
    five = CocoStuff27(str(coco), 'train2017', SIZE, crop='five')
    batch = model.data_preprocessor(default_collate([five[i] for i in (0, 3, 7)]))
    expected = model.tokens(batch['inputs'])[0]
    names = {'img_path': batch['img_path'], 'crop_box': batch['crop_box']}
    torch.testing.assert_close(
        model.training_tokens(batch['inputs'], **names), expected, atol=1e-3, rtol=0
    )
    # Each crop has its own file, found again in any order, without another look at the image.
    files = sorted(tmp_path.rglob('*.safetensors'))
    assert len(files) == 3
    again = {'img_path': batch['img_path'][::-1], 'crop_box': batch['crop_box'].flip(0)}
    cached = model.training_tokens(torch.zeros_like(batch['inputs']), **again)
    torch.testing.assert_close(cached, expected.flip(0), atol=1e-3, rtol=0)
    assert sorted(tmp_path.rglob('*.safetensors')) == files
    with pytest.raises(ValueError, match='cache_dir: expected img_path and crop_box'):
        model(batch['inputs'], mode='loss')


def test_five_crops_lie_at_the_corners_and_the_centre(coco: Path) -> None:
    boxes = [five_crop_box(60, 48, index, 0.5) for index in range(5)]
    assert boxes == [
        (0, 0, 30, 24),
        (30, 0, 60, 24),
        (0, 24, 30, 48),
        (30, 24, 60, 48),
        (15, 12, 45, 36),
    ]
    five = CocoStuff27(str(coco), 'train2017', SIZE, crop='five')
    assert len(five) == 10
    assert all(five[i]['inputs'].shape == (3, SIZE, SIZE) for i in (0, 9))
    assert not torch.equal(five[0]['inputs'], five[2]['inputs'])
    torch.testing.assert_close(five[3]['crop_box'], torch.tensor([0.5, 0.5, 1, 1]))
    assert five[5]['img_path'].endswith('000000000001.jpg')


def test_labels_lie_on_the_image(coco: Path, cityscapes: Path) -> None:
    for dataset, classes, names in (
        (
            CocoStuff27(str(coco), 'val2017', SIZE, with_labels=True),
            COCO_STUFF_27,
            ['sky', 'plant', 'ground'],
        ),
        (
            Cityscapes27(str(cityscapes), 'val', SIZE, with_labels=True),
            CITYSCAPES_27,
            ['sky', 'vegetation', 'road'],
        ),
    ):
        item = dataset[1]
        picture = item['inputs'].permute(1, 2, 0).float()
        nearest = (picture[:, :, None] - torch.tensor(COLOURS).float()).norm(dim=-1).argmin(-1)
        expected = torch.tensor([classes.index(name) for name in names])[nearest]
        assert (item['labels'] == expected).float().mean() > 0.95


def test_data_sets_name_what_is_missing(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='got no such folder'):
        CocoStuff27(str(coco), 'test2017', SIZE)
    listed = tmp_path / 'list.txt'
    listed.write_text('000000000000.jpg\nnowhere.jpg\n')
    with pytest.raises(FileNotFoundError, match='1 missing'):
        CocoStuff27(str(coco), 'train2017', SIZE, ann_file=str(listed))
    with pytest.raises(ValueError, match=r"expected one of .*, got 'seven'"):
        CocoStuff27(str(coco), 'train2017', SIZE, crop='seven')
    with pytest.raises(ValueError, match="expected 'center' with labels"):
        CocoStuff27(str(coco), 'train2017', SIZE, crop='five', with_labels=True)


def test_colour_label_maps_are_refused(coco: Path, tmp_path: Path) -> None:
    for name in ('val2017', 'stuffthingmaps/val2017'):
        (tmp_path / name).mkdir(parents=True)
    Image.new('RGB', (40, 40)).save(tmp_path / 'val2017/a.jpg')
    Image.new('RGB', (40, 40)).save(tmp_path / 'stuffthingmaps/val2017/a.png')
    with pytest.raises(ValueError, match="expected 8-bit class ids, got mode 'RGB'"):
        CocoStuff27(str(tmp_path), 'val2017', SIZE, with_labels=True)[0]


def load_tool(repo_root: Path, name: str) -> Any:
    return load_file(repo_root / f'projects/cause/tools/{name}.py')


def load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f'cause_{path.stem}', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kmeans_baseline(repo_root: Path, coco: Path, tmp_path: Path) -> None:
    cfg = toy_config(repo_root, STEMS['coco']['tr-cluster'], coco, tmp_path, None)
    results = load_tool(repo_root, 'kmeans_baseline').run(cfg, None, [0, 1], per_image=8)
    assert [result['cause/classes'] for result in results] == [3, 3]
    assert all(result['cause/pAcc'] > 0 for result in results)


def test_panoptic_becomes_stuff_maps(repo_root: Path, shared_data: Path, tmp_path: Path) -> None:
    from refineclip.datasets.coco_panoptic import CocoPanoptic

    tool = load_tool(repo_root, 'panoptic_to_stuff27')
    dataset = CocoPanoptic(shared_data / 'coco', 'val2017')
    dataset.images = dataset.images[:2]
    tool.CocoPanoptic = lambda *_: dataset
    assert tool.convert_split(shared_data / 'coco', tmp_path, 'val2017') == 2
    path = tmp_path / 'stuffthingmaps/val2017' / f'{dataset[0].img_path.stem}.png'
    table = CocoStuff27.lookup[np.asarray(Image.open(path))]
    ids = dataset[0].read_ids()
    for segment in dataset[0].segments:
        name = dataset.supercategories[dataset.class_to_super[segment.category]]
        assert {COCO_STUFF_27[c] for c in np.unique(table[ids == segment.id])} == {name}
    assert set(table[ids == 0]) <= {255}


@pytest.mark.parametrize('name', ['train', 'test'])
def test_launchers_find_the_project(
    repo_root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv('LOCAL_RANK', '0')
    # As in a fresh process, which has the launcher's own folder on the path and not the root.
    monkeypatch.setattr(sys, 'path', [p for p in sys.path if p not in ('', str(repo_root))])
    path = repo_root / f'tools/{name}.py'
    launcher = load_file(path)
    config = str(repo_root / f'projects/cause/configs/{STEMS["coco"]["tr-cluster"]}.py')
    launcher.load_config(launcher.parse_args([config, *([str(path)] if name == 'test' else [])]))
    assert sys.path[-1] == str(repo_root)
