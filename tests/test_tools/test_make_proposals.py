"""From a folder of images to a file that the region sampler reads."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from refineclip.datasets.proposals import load_proposals
from refineclip.distill.regions import ProposalRegions

RECTANGLE = (20, 16, 60, 48)


@pytest.fixture
def tool(repo_root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        'tool_make_proposals', repo_root / 'tools/make_proposals.py'
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two images of one rectangle, one of them stored on its side, and a broken file."""
    pixels = np.full((64, 96, 3), 100, np.uint8)
    x1, y1, x2, y2 = RECTANGLE
    pixels[y1:y2, x1:x2] = (220, 60, 40)
    image = Image.fromarray(pixels)
    folder = tmp_path / 'photos'
    (folder / 'sub').mkdir(parents=True)
    image.save(folder / 'upright.png')
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    image.rotate(90, expand=True).save(folder / 'sub' / 'turned.png', exif=exif)
    (folder / 'broken.jpg').write_bytes(b'')
    return folder


@pytest.fixture
def stub_mmdet(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """mmdet's public inference API, which finds the red rectangle and a box outside the image."""
    seen: list[np.ndarray] = []

    class Instances(SimpleNamespace):
        def cpu(self) -> Instances:
            return self

    def inference_detector(model: str, image: np.ndarray) -> SimpleNamespace:
        seen.append(image)
        y, x = (image[..., 2] > 200).nonzero()  # BGR
        box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        boxes = torch.tensor([[200, 200, 300, 300], box], dtype=torch.float32)
        return SimpleNamespace(
            pred_instances=Instances(bboxes=boxes, scores=torch.tensor([0.9, 0.75]))
        )

    apis = SimpleNamespace(
        inference_detector=inference_detector,
        init_detector=lambda config, checkpoint, palette, device: f'{config} on {device}',
    )
    monkeypatch.setitem(sys.modules, 'mmdet', SimpleNamespace(apis=apis))
    monkeypatch.setitem(sys.modules, 'mmdet.apis', apis)
    return seen


def arguments(photos: Path, tmp_path: Path, *more: str) -> list[str]:
    return ['--data-root', str(photos), '--out', str(tmp_path / 'boxes.json'), *more]


def detector(tmp_path: Path) -> list[str]:
    paths = [tmp_path / 'rpn.py', tmp_path / 'rpn.pth']
    for path in paths:
        path.touch()
    return ['--detector', *map(str, paths)]


def test_superpixels_to_region_sampler(tool, photos, tmp_path, capsys):
    pytest.importorskip('skimage')
    pytest.importorskip('sklearn')
    tool.main(arguments(photos, tmp_path))
    err = capsys.readouterr().err
    assert 'warning: skipped image broken.jpg: zero-byte file' in err
    assert err.strip().endswith('each), 1 images skipped')
    assert not (tmp_path / 'boxes.json.partial').exists()
    proposals = load_proposals(tmp_path / 'boxes.json')
    assert set(proposals) == {'upright.png', 'sub/turned.png'}
    truth = torch.tensor([RECTANGLE], dtype=torch.float32)
    for rows in proposals.values():
        assert box_iou(truth, torch.from_numpy(rows[:, :4])).max() > 0.9
    sampler = ProposalRegions(str(tmp_path / 'boxes.json'))
    sampler.check_images(['upright.png', 'sub/turned.png'])
    drawn = sampler(96, 64, np.random.default_rng(0), str(photos / 'upright.png'))
    assert len(drawn) == len(proposals['upright.png'])
    assert box_iou(truth, torch.from_numpy(drawn) * torch.tensor([96, 64, 96, 64])).max() > 0.9


@pytest.mark.slow
def test_workers_find_the_same(tool, photos, tmp_path, repo_root):
    pytest.importorskip('skimage')
    pytest.importorskip('sklearn')
    tool.main(arguments(photos, tmp_path))
    other = ['--out', str(tmp_path / 'other.json'), '--num-workers', '2']
    script = repo_root / 'tools' / 'make_proposals.py'
    subprocess.run([sys.executable, script, *arguments(photos, tmp_path), *other], check=True)
    assert (tmp_path / 'other.json').read_text() == (tmp_path / 'boxes.json').read_text()


def test_detector_sees_upright_bgr_pixels(tool, photos, tmp_path, stub_mmdet):
    tool.main(arguments(photos, tmp_path, *detector(tmp_path)))
    assert [image.shape for image in stub_mmdet] == [(64, 96, 3)] * 2
    content = json.loads((tmp_path / 'boxes.json').read_text())
    row = [*map(float, RECTANGLE), 0.75]
    assert content == {'sub/turned.png': [row], 'upright.png': [row]}


def test_a_stopped_run_goes_on(tool, photos, tmp_path, stub_mmdet, monkeypatch):
    line = arguments(photos, tmp_path, *detector(tmp_path))
    whole = tool.DetectorRows.__call__

    def dies(self, name):
        if name == 'upright.png':
            raise KeyboardInterrupt
        return whole(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(tool.DetectorRows, '__call__', dies)
        with pytest.raises(KeyboardInterrupt):
            tool.main(line)
    assert not (tmp_path / 'boxes.json').exists()
    unfinished = tmp_path / 'boxes.json.partial'
    assert len(unfinished.read_text().splitlines()) == 3  # settings, broken, turned
    with unfinished.open('a') as file:
        file.write('{"name": "upright.png", "box')
    stub_mmdet.clear()
    tool.main(line)
    assert len(stub_mmdet) == 1
    assert set(json.loads((tmp_path / 'boxes.json').read_text())) == {
        'sub/turned.png',
        'upright.png',
    }


def test_a_stopped_run_of_other_settings_is_refused(tool, photos, tmp_path, stub_mmdet):
    (tmp_path / 'boxes.json.partial').write_text('{"filter": "another"}\n')
    with pytest.raises(SystemExit, match=r'expected .* to be of the same settings'):
        tool.main(arguments(photos, tmp_path, *detector(tmp_path)))


def test_only_the_listed_images(tool, photos, tmp_path, stub_mmdet):
    names = tmp_path / 'names.txt'
    names.write_text('upright.png\n')
    line = arguments(photos, tmp_path, *detector(tmp_path), '--ann-file', str(names))
    tool.main(line)
    assert set(json.loads((tmp_path / 'boxes.json').read_text())) == {'upright.png'}


def test_nothing_is_overwritten_unasked(tool, photos, tmp_path, stub_mmdet, capsys):
    line = arguments(photos, tmp_path, *detector(tmp_path))
    tool.main(line)
    with pytest.raises(SystemExit):
        tool.main(line)
    assert 'which exists; --overwrite it' in capsys.readouterr().err
    tool.main([*line, '--overwrite', '--max-per-image', '1', '--min-area', '1000000'])
    assert set(map(len, json.loads((tmp_path / 'boxes.json').read_text()).values())) == {0}


def test_early_errors(tool, photos, tmp_path, capsys):
    pytest.importorskip('skimage')
    pytest.importorskip('sklearn')
    with pytest.raises(SystemExit):
        tool.main(arguments(photos, tmp_path, '--detector', 'no.py', 'no.pth'))
    assert "got no file 'no.py'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match='expected a folder after --data-root'):
        tool.main(arguments(tmp_path / 'nowhere', tmp_path))
    empty = tmp_path / 'bad'
    empty.mkdir()
    (empty / 'a.jpg').touch()
    with pytest.raises(SystemExit, match=r'expected usable images .* got 1 bad ones'):
        tool.main(arguments(empty, tmp_path))


def test_superpixels_without_their_libraries(tool, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit):
        tool.main(arguments(photos, tmp_path))
    assert 'pip install scikit-image scikit-learn' in capsys.readouterr().err


def test_detector_without_mmdet(tool, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmdet.apis', None)
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    with pytest.raises(SystemExit, match='expected mmdet for --detector, got ModuleNotFoundError'):
        tool.main(arguments(photos, tmp_path, *detector(tmp_path)))


TOY_RPN = """
default_scope = 'mmdet'
model = dict(
    type='RPN', neck=None, train_cfg=None,
    data_preprocessor=dict(type='DetDataPreprocessor', bgr_to_rgb=True, pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=18, base_channels=8, num_stages=2, strides=(1, 2), dilations=(1, 1),
        out_indices=(1,), frozen_stages=-1, norm_cfg=dict(type='BN'), style='pytorch'),
    rpn_head=dict(
        type='RPNHead', in_channels=16, feat_channels=8,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[4], ratios=[0.5, 1.0, 2.0], strides=[8]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
        loss_bbox=dict(type='L1Loss')),
    test_cfg=dict(rpn=dict(
        nms_pre=100, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape', 'img_shape', 'scale_factor'))]))
"""


@pytest.mark.mm
def test_toy_rpn_of_mmdet(tool, photos, tmp_path):
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    config, checkpoint = tmp_path / 'rpn.py', tmp_path / 'rpn.pth'
    config.write_text(TOY_RPN)
    register_all_modules(init_default_scope=True)
    model = MODELS.build(Config.fromfile(config).model)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, checkpoint)
    tool.main(arguments(photos, tmp_path, '--detector', str(config), str(checkpoint)))
    proposals = load_proposals(tmp_path / 'boxes.json')
    assert set(proposals) == {'upright.png', 'sub/turned.png'}
    for rows in proposals.values():
        assert 1 <= len(rows) <= 20
        assert (rows[:, :4] >= 0).all()
        assert (rows[:, [0, 2]] <= 96).all()
        assert (rows[:, [1, 3]] <= 64).all()
    # The same pixels in the same frame, whatever the file's orientation.
    np.testing.assert_allclose(proposals['upright.png'], proposals['sub/turned.png'], atol=0.1)
