from __future__ import annotations

import importlib.util
import json
import os
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refineclip.commands import evaluate
from refineclip.commands.evaluate.common import (
    check_writable,
    printable,
    usable_device,
    write_json,
)
from refineclip.encoders import build_clip
from refineclip.evaluation.regions import class_texts
from tests.test_evaluation.toy_panoptic import CATEGORIES, PATCH, edit_json, write_coco

TOWER: dict[str, Any] = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=32, layers=3, width=16, head_width=8, patch_size=PATCH),
    text_cfg=dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=1),
)


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """A toy CLIP as open_clip saves it."""
    folder = tmp_path / 'clip'
    folder.mkdir()
    (folder / 'open_clip_config.json').write_text(json.dumps({'model_cfg': TOWER}))
    state = build_clip(TOWER).state_dict()
    state = {key.replace('visual.model.', 'visual.'): value for key, value in state.items()}
    torch.save(state, folder / 'open_clip_pytorch_model.bin')
    return f'local-dir:{folder}'


@pytest.fixture
def base(tmp_path: Path, clip: str) -> list[str]:
    root = write_coco(tmp_path / 'coco')
    return ['--data', str(root), '--model', clip, '--models', f'frozen={clip}']


def test_regions(base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'results' / 'regions.json'
    argv = ['regions', *base, 'tapped=' + base[3] + '@0', 'random=random']
    argv += ['--image-size', '64', '--compare', 'frozen', '--json', str(out)]
    argv += ['--templates', 'photo', '--cache-dir', str(tmp_path / 'cache')]
    assert evaluate.main(argv) == 0
    text = capsys.readouterr().out
    for head in ('boxes, 4 images', 'masks, 4 images', 'crops, 4 images', 'things@1', 'stuff@5'):
        assert head in text
    assert 'tapped - frozen' in text
    content = json.loads(out.read_text())
    assert set(content['scores']) == {'frozen', 'tapped', 'random'}
    assert content['settings']['num_regions'] == 16
    assert content['settings']['rules']['area_px'] == [64, 1048576]
    assert content['settings']['preprocessing']['image_resize'] == 'letterbox'
    assert content['settings']['text']['templates'] == 'photo'
    names = ['person', 'car', 'grass-merged', 'sky-other-merged']
    assert content['settings']['text']['names'] == names
    # 64 px are other than the 512 px of clipself with a patch of 8.
    protocol = 'clipself, with image size 64, templates photo'
    assert content['settings']['protocol'] == protocol
    for way in ('boxes', 'masks', 'crops'):
        assert f'{way}, 4 images, protocol {protocol}\n{way} ' in text
    assert content['settings']['preprocessing']['crop_size'] == [32, 32]
    # The tapped row has the frozen row's image embedding.
    assert content['differences']['tapped']['crops_top1']['value'] == 0
    shown = content['scores']['frozen']['boxes_class_top1']
    assert f'{shown:.4f}' in text
    # From the cache: the same numbers.
    assert evaluate.main(argv) == 0
    assert json.loads(out.read_text())['scores'] == content['scores']


def test_protocols(
    base: list[str], clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'regions.json'
    argv = ['regions', *base, '--no-crops', '--limit', '1', '--json', str(out)]

    def settings(*extra: str) -> tuple[dict[str, Any], dict[str, Any]]:
        assert evaluate.main([*argv, *extra]) == 0
        content = json.loads(out.read_text())
        assert f', protocol {content["settings"]["protocol"]}\n' in capsys.readouterr().out
        return content['settings'], content['scores']

    found, scores = settings('--image-size', '512')
    assert found['protocol'] == 'clipself'
    assert found['rules']['normalize_tokens'] is True
    # One place says how crops are enlarged.
    assert found['rules']['crop_enlarge'] == [1.5, 1.0]
    assert 'crop_enlarge' not in found['preprocessing']
    # Its own texts, precomputed.
    names = [c['name'] for c in CATEGORIES]
    texts = class_texts(names, names, model=clip, pretrained=clip, class_names='raw').embeddings
    np.save(tmp_path / 'texts.npy', texts.numpy())
    _, again = settings('--text-embeddings', str(tmp_path / 'texts.npy'))
    assert again == scores
    found, _ = settings('--protocol', 'ours', '--image-size', '64', '--area', '1024', '1048576')
    assert found['protocol'] == 'ours, with image size 64, area 1024 1048576'
    assert found['text']['names'] == ['person', 'car', 'grass', 'sky']
    assert found['rules']['crowds'] is False
    found, _ = settings('--image-size', '64', '--no-crowds', '--classes', 'car', 'person')
    assert found['protocol'] == 'clipself, with image size 64, crowds off, 2 classes'


def test_spatial(base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'spatial.json'
    argv = ['spatial', *base, 'colour=colour', '--image-size', '64', '--json', str(out)]
    argv += ['--measures', 'auc', 'imk', 'knn', '--resize', 'letterbox', '--compare', 'frozen']
    assert evaluate.main(argv) == 0
    text = capsys.readouterr().out
    assert text.startswith('4 images, 64 px letterbox')
    assert text.splitlines()[0].split()[-3:] == ['auc', 'imk', 'knn']
    scores = json.loads(out.read_text())['scores']
    assert scores['colour'] == pytest.approx({'auc': 1, 'imk': 1, 'knn': 1})
    assert 'colour - frozen' in text
    assert '+0.' in text


def test_text_head_lets_a_tower_without_text_name_regions(
    base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from refineclip.encoders.text.text_head import TextHead

    np.save(tmp_path / 'texts.npy', np.eye(4, 5))
    texts = ['--text-embeddings', str(tmp_path / 'texts.npy'), '--image-size', '64', '--no-crops']
    assert evaluate.main(['regions', *base, *texts]) == 2
    assert 'got 5 for features of 12' in capsys.readouterr().err
    head = TextHead.fit(torch.randn(20, 12), torch.randn(20, 5))
    head.save(tmp_path / 'head.safetensors')
    texts += ['--text-head', str(tmp_path / 'head.safetensors')]
    assert evaluate.main(['regions', *base, *texts]) == 0
    assert 'crops' not in capsys.readouterr().out


def test_stage_1_checkpoint_is_a_refined_row(
    base: list[str], clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from refineclip.encoders import RefinerCLIP

    model = RefinerCLIP(clip, clip, refiner=dict(num_blocks=1))
    path = tmp_path / 'epoch_1.pth'
    torch.save({'state_dict': {f'encoder.{k}': v for k, v in model.state_dict().items()}}, path)
    argv = ['spatial', *base, f'refiner={path}', '--image-size', '64', '--measures', 'auc']
    assert evaluate.main([*argv, '--compare', 'frozen']) == 0
    # An untrained Refiner is the encoder.
    assert '+0.0000 [+0.0000, +0.0000]' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('kind', 'extra', 'message'),
    [
        ('spatial', ['--models', 'frozen'], "expected NAME=CHECKPOINT, got 'frozen'"),
        ('spatial', ['--models', 'a=random', 'a=random'], "different names, got 'a' twice"),
        ('spatial', ['--compare', 'other'], "--compare: expected one of ['frozen'], got 'other'"),
        ('spatial', ['--image-size', '60'], '--image-size: expected a multiple of the patch 8'),
        ('spatial', ['--limit', '0'], '--limit: expected one or more images, got 0'),
        ('spatial', ['--limit', '1', '--compare', 'frozen'], 'two or more images to resample'),
        ('spatial', ['--limit', '1', '--measures', 'knn'], 'knn: expected labelled tokens in 2'),
        ('spatial', ['--split', 'test'], 'expected the COCO panoptic layout'),
        ('spatial', ['--json', '.'], '--json: expected a file to write, got .'),
        ('spatial', ['--models', 'a=none.pth'], 'expected a weight file at none.pth'),
        ('spatial', ['--dense-mode', 'sharp'], 'sharp'),
        ('spatial', ['--position-interpolation', 'sharp'], 'sharp'),
        ('regions', ['--classes', 'zebra'], "none of the data set's classes"),
        ('regions', ['--models', 'c=colour'], "rows with a text space, got 'c'"),
        ('regions', ['--area', '5', '2'], 'smallest < largest area'),
        ('regions', ['--text-embeddings', 'none.npy'], 'none.npy'),
        ('regions', ['--templates', 'poem'], 'templates: expected one of'),
        ('regions', ['--text-head', 'x', '--normalize-tokens'], 'expected raw tokens beside'),
        ('regions', ['--crop-enlarge', '.5'], 'crop_enlarge: expected two factors >= 1'),
        ('regions', ['--text-head', 'none'], 'make one with tools/fit_text_head.py'),
    ],
)
def test_wrong_input_is_one_sentence(
    base: list[str],
    capsys: pytest.CaptureFixture[str],
    kind: str,
    extra: list[str],
    message: str,
) -> None:
    assert evaluate.main([kind, *base, '--image-size', '64', *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error


def test_missing_label_maps(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (Path(base[1]) / 'annotations/panoptic_val2017/001.png').unlink()
    assert evaluate.main(['spatial', *base, '--image-size', '64']) == 2
    assert '1 missing (first: ' in capsys.readouterr().err


def test_more_clusters_than_tokens(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    content, write = edit_json(Path(base[1]))
    content['categories'] += [
        {'id': 200 + i, 'name': f'n{i}', 'supercategory': f's{i}', 'isthing': 0} for i in range(300)
    ]
    write()
    argv = ['spatial', *base, '--image-size', '64', '--measures', 'gk']
    assert evaluate.main(argv) == 2
    assert 'gk: expected at least one labelled token per cluster' in capsys.readouterr().err


def test_damaged_photo_is_named(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (Path(base[1]) / 'val2017/001.png').write_bytes(b'')
    assert evaluate.main(['spatial', *base, '--image-size', '64']) == 2
    assert '001.png: zero-byte file' in capsys.readouterr().err


def test_without_scikit_learn(
    base: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert evaluate.main(['spatial', *base]) == 2
    assert 'expected scikit-learn' in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([]) == 2
    assert 'regions' in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        evaluate.main(['regions', '--help'])
    assert stop.value.code == 0
    assert 'RoIAlign' in capsys.readouterr().out


def test_a_result_that_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    reader = os.open(tmp_path / 'pipe', os.O_RDONLY | os.O_NONBLOCK)
    write_json(tmp_path / 'pipe', {'a': 1})
    assert json.loads(os.read(reader, 100)) == {'a': 1}
    os.close(reader)
    assert (tmp_path / 'pipe').is_fifo()


def test_leave_to_write_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / 'new' / 'a.json')
    check_writable(tmp_path, folder=True)
    monkeypatch.setattr('os.access', lambda path, mode: False)
    with pytest.raises(ValueError, match=f'got none for {tmp_path}$'):
        check_writable(tmp_path / 'new' / 'a.json')


def test_names_of_files_are_shown_on_one_line() -> None:
    assert printable('a\nb\x1b[1m\udcff é 猫') == 'a\\nb\\x1b[1m\\udcff é 猫'


@pytest.mark.parametrize('name', ['nonsense', 'cuda:99', 'cpu:x', ''])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    assert usable_device('cpu') == 'cpu'
    with pytest.raises(ArgumentTypeError, match=f'of this machine .* got {name!r}'):
        usable_device(name)
