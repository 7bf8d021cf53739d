from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from refineclip.commands import draw
from refineclip.datasets.vocabularies import parse_texts
from refineclip.encoders import build_clip
from refineclip.encoders.text.embedder import TextEmbedder
from refineclip.visualization import pca_figure
from tests.test_evaluation.toy_panoptic import PATCH, write_coco

TOWER: dict[str, Any] = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=32, layers=3, width=16, head_width=8, patch_size=PATCH),
    text_cfg=dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=1),
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy CLIP as open_clip saves it, and labelled images."""
    root = tmp_path_factory.mktemp('draw')
    (root / 'clip').mkdir()
    (root / 'clip' / 'open_clip_config.json').write_text(json.dumps({'model_cfg': TOWER}))
    torch.manual_seed(0)
    state = build_clip(TOWER).state_dict()
    state = {key.replace('visual.model.', 'visual.'): value for key, value in state.items()}
    torch.save(state, root / 'clip' / 'open_clip_pytorch_model.bin')
    write_coco(root / 'coco')
    return root


@pytest.fixture
def base(folder: Path) -> list[str]:
    clip = f'local-dir:{folder / "clip"}'
    return ['--model', clip, '--models', f'frozen={clip}', f'first block={clip}@0']


def test_every_kind_draws(
    base: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ['--images', str(folder / 'coco' / 'val2017'), '--num-images', '2']
    data = ['--data', str(folder / 'coco')]
    curve = [*data, '--counts', '1', '2', '--draws', '1', '--measures', 'auc']
    calls = {
        'pca': images,
        'affinity': [*images, '--token', '0.2', '0.4', '--own-scale'],
        'segmentation': [*images, '--texts', 'zebra . traffic light', '--templates', 'a {}'],
        'tsne': data,
        'curve': curve,
    }
    for kind, options in calls.items():
        out = tmp_path / f'{kind}.png'
        assert draw.main([kind, *base, *options, '--out', str(out)]) == 0, kind
        assert capsys.readouterr().out == f'{out}\n'
        with Image.open(out) as image:
            assert min(image.size) > 200, kind
    report = tmp_path / 'report.html'
    options = [*images, *curve, '--texts', 'zebra . horse']
    assert draw.main(['report', *base, *options, '--out', str(report)]) == 0
    page = report.read_text()
    assert page.count('<img ') == 5
    assert 'first block' in page
    assert '4 of coco, split val2017' in page


@pytest.mark.parametrize(
    ('kind', 'options', 'message'),
    [
        ('pca', [], '--images: expected files or a folder for pca'),
        ('segmentation', ['--images', '.'], '--texts: expected names'),
        ('segmentation', ['--images', '.', '--texts', ' . '], 'expected one class name or more'),
        ('report', ['--images', '.', '--texts', 'a . . b'], "got none after 'a'"),
        ('tsne', [], '--data: expected a folder of labelled images for tsne'),
        ('report', [], 'expected --images, --data or both'),
        ('pca', ['--images', '.', '--num-images', '0'], '--num-images: expected 1 or more'),
        ('affinity', ['--images', '.', '--token', '1.5', '0'], r'--token: expected X and Y'),
        ('pca', ['--images', 'no/such/folder'], 'expected an image or a folder of images'),
        ('curve', ['--data', '.', '--measures', 'miou'], '--measures: expected some of'),
    ],
)
def test_wrong_input_is_said_in_a_sentence(
    base: list[str],
    kind: str,
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / ('r.html' if kind == 'report' else 'r.png')
    assert draw.main([kind, *base, *options, '--out', str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_wrong_output(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert draw.main(['pca', *base, '--images', '.', '--out', 'a.html']) == 2
    assert "ends in one of ('.png', '.pdf', '.svg'), got a.html" in capsys.readouterr().err
    assert draw.main(['report', *base, '--images', '.', '--out', 'a.png']) == 2
    assert "'.html'" in capsys.readouterr().err


def test_mean_colours_have_no_words(base: list[str], folder: Path, tmp_path: Path) -> None:
    options = ['colour=colour', '--images', str(folder / 'coco' / 'val2017'), '--texts', 'a . b']
    out = tmp_path / 'a.png'
    assert draw.main(['segmentation', *base, *options, '--out', str(out)]) == 0
    assert draw.main(['pca', *base, *options, '--own-scale', '--out', str(out)]) == 0
    assert draw.main(['pca', *base, *options, '--out', str(out)]) == 2  # 4 channels, not 12


def test_bad_images_are_skipped_and_told(
    base: list[str], folder: Path, tmp_path: Path, capsys
) -> None:
    photos = tmp_path / 'photos'
    photos.mkdir()
    (photos / 'a.jpg').write_bytes(b'<html>')
    argv = ['pca', *base, '--images', str(photos), '--out', str(tmp_path / 'a.png')]
    assert draw.main(argv) == 2
    assert 'got 1 of which none can; the first:' in capsys.readouterr().err
    for name in ('b', 'c', 'd'):
        Image.new('RGB', (64, 48), (90, 40, 20)).save(photos / f'{name}.png')
    drawn = []
    with mock.patch('refineclip.visualization.pca_figure', wraps=pca_figure) as figure:
        assert draw.main([*argv, '--num-images', '2']) == 1
        drawn = figure.call_args[0][0]
    assert len(drawn) == 2
    said = capsys.readouterr().err
    assert f'warning: skipped {photos / "a.jpg"}: cannot be read' in said
    assert 'warning: 1 images were skipped' in said


def test_on_real_photos(shared_data: Path, tmp_path: Path) -> None:
    weights = shared_data / 'weights' / 'vit_small_patch14_dinov2_derivative.fp16.safetensors'
    photo = min((shared_data / 'coco' / 'val2017').iterdir())
    argv = ['pca', '--model', 'timm/vit_small_patch14_dinov2', '--models', f'vit={weights}']
    argv += [f'earlier={weights}@8', '--images', str(photo), '--image-size', '112']
    assert draw.main([*argv, '--out', str(tmp_path / 'a.png')]) == 0


def test_texts_are_those_of_segment_and_detect(
    base: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One class per name between ' . ', and no data set's rule on anybody's words."""
    texts = 'U.S. flag . st. bernard;dog . ceiling-fan . food-stuff'
    embedded: list[str] = []
    drawn: list[str] = []

    def embed(self: TextEmbedder, names: list[str]) -> torch.Tensor:
        embedded.extend(names)
        return torch.eye(len(names), TOWER['embed_dim'])

    def figure(pictures: Any, labels: Any, names: list[str], *args: Any, **kwargs: Any) -> Figure:
        drawn.extend(names)
        return Figure()

    monkeypatch.setattr(TextEmbedder, 'embed', embed)
    monkeypatch.setattr('refineclip.visualization.segmentation_figure', figure)
    images = ['--images', str(folder / 'coco' / 'val2017'), '--texts', texts]
    assert draw.main(['segmentation', *base, *images, '--out', str(tmp_path / 'a.png')]) == 0
    assert tuple(embedded) == parse_texts(texts)
    assert drawn == ['U.S. flag', 'st. bernard', 'ceiling-fan', 'food-stuff']


def test_random_text_names_nothing(folder: Path, tmp_path: Path, capsys) -> None:
    images = ['--images', str(folder / 'coco' / 'val2017'), '--texts', 'cat']
    argv = ['segmentation', '--model', 'timm/vit_tiny_patch16_224', '--models', 'r=random', *images]
    assert draw.main([*argv, '--image-size', '32', '--out', str(tmp_path / 'a.png')]) == 2
    assert 'expected weights for the text tower of timm/vit_tiny' in capsys.readouterr().err
