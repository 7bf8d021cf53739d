"""The demo at toy size: it trains, what it prints is true, and its snippet loads."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image

from refineclip.__main__ import main as dispatch
from refineclip.commands import demo, demo_photos


def make_folder(folder: Path, count: int) -> Path:
    """Images of blocks of random colours, of various sizes."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for index in range(count):
        blocks = draw.integers(0, 256, (5, 4 + index, 3), dtype=np.uint8)
        size = (80 + 10 * index, 90)
        Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(folder / f'{index}.png')
    return folder


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What one run printed and wrote."""
    root = tmp_path_factory.mktemp('demo')
    folder = make_folder(root / 'images', 9)
    (folder / 'broken.jpg').touch()
    line = ['--images', str(folder), '--out', str(root / 'out'), '--iters', '10']
    with pytest.MonkeyPatch.context() as patch:
        text: list[str] = []
        patch.setattr('sys.stdout.write', text.append)
        assert dispatch(['demo', *line, '--image-size', '64']) == 0
    return ''.join(text), root / 'out'


def row(text: str, label: str) -> list[float]:
    """Numbers of one row of the table: frozen, Refiner, refined."""
    line = next(line for line in text.splitlines() if line.strip().startswith(label))
    return [float(value.rstrip('%')) for value in line.split()[-3:]]


def snippet(text: str) -> dict:
    """The printed backbone as a config."""
    code = re.search(r'backbone=(dict\(.*\))$', text, re.MULTILINE)
    assert code is not None

    def value(node: ast.expr) -> object:
        if isinstance(node, ast.Call):
            return {word.arg: value(word.value) for word in node.keywords}
        return ast.literal_eval(node)

    return value(ast.parse(code[1], mode='eval').body)


def test_one_clear_last_line_and_an_honest_first_one(finished):
    text, _ = finished
    assert text.strip().splitlines()[-1].startswith('demo: done, both stages trained')
    assert 'RANDOM weights' in text
    assert '8 to train, 2 held out' in text


def test_table_is_true_where_it_must_be(finished):
    text, _ = finished
    divergence = row(text, "KL from the Refiner's")
    unmoved = row(text, 'cosine to the frozen token')
    assert divergence[1] == 0
    assert divergence[0] > 0
    assert unmoved[0] == 1
    assert all(0.5 < value <= 1 for value in unmoved)
    assert all(0 < value <= 1 for value in row(text, 'cosine of region tokens'))


def test_the_printed_backbone_is_the_refined_one(finished):
    text, out = finished
    config = snippet(text)
    backbone = MODELS.build(config)
    backbone.init_weights()
    assert Path(config['init_cfg']['checkpoint']) == (out / 'stage2/refined_iter_10.pth').resolve()
    state = torch.load(out / 'stage2' / 'iter_10.pth', weights_only=False)['state_dict']
    start = torch.load(out / 'encoder.pth', weights_only=True)['state_dict']
    changed = 0
    for name, value in backbone.state_dict().items():
        student = state[f'student.{name}']
        torch.testing.assert_close(value, 0.7 * student + 0.3 * start[name])
        changed += not torch.equal(student, start[name])
    assert changed > 10


def test_the_teacher_of_stage_two_is_the_encoder_with_the_refiner_of_stage_one(finished):
    _, out = finished
    first = torch.load(out / 'stage1' / 'iter_10.pth', weights_only=False)['state_dict']
    second = torch.load(out / 'stage2' / 'iter_10.pth', weights_only=False)['state_dict']
    names = [name for name in first if name.startswith('encoder.')]
    assert any('.refiner.' in name for name in names)
    for name in names:
        assert torch.equal(first[name], second[name.replace('encoder.', 'teacher.', 1)])


def test_held_out_images_were_not_trained_on(finished):
    _, out = finished
    train, held_out = (
        set((out / name).read_text().split()) for name in ('train.txt', 'held_out.txt')
    )
    assert not train & held_out
    assert len(train | held_out) == 10


def test_missing_scikit_image_names_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert demo.main(['--out', str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "-m pip install 'scikit-image>=0.22'" in message
    assert '--images FOLDER' in message


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--image-size', '60'], 'multiple of the patch size 16'),
        (['--model', 'timm/vit_tinny_patch16_224'], 'vit_tiny_patch16_224'),
        (['--pretrained', 'nowhere.pth'], 'nowhere.pth'),
    ],
)
def test_what_cannot_be_built_is_said_before_training(tmp_path, capsys, options, message):
    folder = make_folder(tmp_path / 'images', 4)
    line = ['--images', str(folder), '--out', str(tmp_path / 'out'), *options]
    assert demo.main(line) == 2
    assert message in capsys.readouterr().err


def test_too_few_or_no_images(tmp_path, capsys):
    few = make_folder(tmp_path / 'few', 3)
    assert demo.main(['--images', str(few), '--out', str(tmp_path)]) == 2
    assert 'got 1 and 2 in' in capsys.readouterr().err
    assert demo.main(['--images', str(tmp_path / 'nowhere'), '--out', str(tmp_path)]) == 2
    assert 'which is no folder' in capsys.readouterr().err


def test_sample_photos_are_there_and_apart():
    pytest.importorskip('skimage')
    photos = demo_photos.sample_photos()
    assert len(photos.train) >= 10
    assert len(photos.held_out) >= 3
    assert not set(photos.train) & set(photos.held_out)
    for name in photos.train + photos.held_out:
        with Image.open(photos.root / name) as image:
            assert min(image.size) >= 150


def test_split_of_a_folder(tmp_path):
    photos = demo_photos.folder_photos(make_folder(tmp_path / 'images', 9))
    assert photos.held_out == ['3.png', '7.png']
    assert len(photos.train) == 7
