"""What the command refuses, in a sentence and before anything is loaded."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from refineclip.commands import app
from refineclip.commands.app import command, world
from refineclip.commands.app.command import make_parser
from tests.test_commands.test_app.toys import MODELS


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--model', 'ViT-B-16'], 'expected --model and --models, or neither'),
        (['--model', 'ViT-B-16', '--models', 'frozen'], '--models: expected NAME=CHECKPOINT'),
        (['--port', '70000'], r'--port: expected a port in [0, 65535], got 70000'),
        (['--host', 'no.such.host.invalid'], '--host: expected an address of this machine'),
        (['--num-images', '-1'], '--num-images: expected 0 or more, got -1'),
        (['--detector', 'no.py', 'no.pth'], '--detector: expected a file, got no.py'),
        ([*MODELS[:-3], 'a=no/file.pth', 'b=no/other.pth'], 'expected a weight file at no/file'),
        (['--image-size', '100'], 'a multiple of the patch 8, got 100'),
        (['--images', 'no/such/folder'], 'expected an image or a folder of images'),
    ],
)
def test_wrong_input(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if '--port' not in argv:
        argv = [*argv, '--port', '0']
    assert app.main([*argv, '--no-browser', '--demo', 'no/demo']) == 2
    assert message in capsys.readouterr().err


def test_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert app.main(['--no-browser', '--port', str(port)]) == 2
    error = capsys.readouterr().err
    assert f'--port: expected a free port, got {port}, which is in use; name another' in error


def test_without_gradio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.importlib.util, 'find_spec', lambda name: None)
    assert app.main(['--no-browser']) == 2
    assert "expected gradio for the page, got none; pip install '" in capsys.readouterr().err


def test_loopback_is_the_default() -> None:
    assert make_parser().parse_args([]).host == '127.0.0.1'


def test_rows_of_the_drawn_world(tmp_path: Path) -> None:
    """The frozen CLIP, and the last checkpoint of each run of a demo, or else what is shipped."""
    shipped = {
        'frozen CLIP': 'shipped',
        **{row: str(path) for row, path in world.SHIPPED_ROWS.items()},
    }
    assert list(shipped) == ['frozen CLIP', 'Refiner', 'RLA', 'R-SC-RLA']
    assert world.rows(tmp_path) == shipped
    files = [
        *('refiner_seed0/iter_100.pth', 'refiner_seed0/iter_200.pth', 'rla_seed0/iter_300.pth'),
        *('rla_seed0/refined_iter_300.pth', 'r-sc-rla_seed1/refined_iter_300.pth'),
        'fvit_rla_seed0/iter_40.pth',
    ]
    for name in files:
        path = tmp_path / 'runs' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert world.rows(tmp_path) == shipped  # no demo
    marker = tmp_path / '.refineclip-demo'
    marker.write_text(json.dumps({'seeds': [0], 'quick': False}))
    runs = tmp_path / 'runs'
    assert world.rows(tmp_path) == {
        'frozen CLIP': 'shipped',
        'Refiner': str(runs / 'refiner_seed0' / 'iter_200.pth'),
        'RLA': str(runs / 'rla_seed0' / 'refined_iter_300.pth'),
        'R-SC-RLA': str(runs / 'r-sc-rla_seed1' / 'refined_iter_300.pth'),
    }
    (runs / 'r-sc-rla_seed1' / 'refined_iter_300.pth').unlink()
    assert world.rows(tmp_path)['R-SC-RLA'] == shipped['R-SC-RLA']
    [(name, (config, path))] = world.detectors(tmp_path).items()
    assert name == 'F-ViT on RLA'
    assert config.name == 'fvit_microworld.py'
    assert path == runs / 'fvit_rla_seed0' / 'iter_40.pth'
    marker.write_text(json.dumps({'quick': True}))
    assert world.rows(tmp_path) == shipped


def test_the_page_opens_on_objects_that_have_names() -> None:
    assert world.first_words() == ('cactus', 'car', 'house', 'street')
    assert len({caption for caption, _ in world.samples(40)}) > 34
    assert len(world.samples(40)) == 40
    assert world.samples(1)[0][0] == 'a teal cactus, a car and a house in a street'
    x, y = world.first_point()
    assert 0 < x < 1
    assert 0 < y < 1
