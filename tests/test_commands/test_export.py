from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import refineclip.export.timm_folder as timm_folder
from refineclip.__main__ import main
from refineclip.commands.export import image_size, make_parser
from refineclip.encoders import RefinerCLIP
from refineclip.export.compare import Comparison

SHIPPED = ['shipped', '--model', 'microworld-clip']
TINY = ['timm', 'random', '--model', 'timm/test_vit']


def test_an_export_is_loaded_back_and_recorded(tmp_path: Path, capsys) -> None:
    out = tmp_path / 'out'
    assert main(['export', *TINY, '--out', str(out)]) == 0
    said = capsys.readouterr().out
    assert 'dense map, picture' in said
    assert f'{out}: loaded back, largest difference ' in said
    record = json.loads((out / 'refineclip_export.json').read_text())
    assert set(record['differences']) == {
        f'{what}, {pixels}'
        for what in ('dense map', 'image embedding')
        for pixels in ('random pixels', 'picture')
    }
    assert record['asked']['model'] == 'timm/test_vit'
    assert record['environment']['versions']['timm']


def test_a_folder_that_exists_is_refused_before_anything_is_built(tmp_path: Path, capsys) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    assert main(['export', 'timm', 'random', '--model', 'no/such', '--out', str(out)]) == 2
    assert 'which exists; --force replaces an earlier export' in capsys.readouterr().err
    assert main(['export', *TINY, '--out', str(out), '--force']) == 0
    assert main(['export', *TINY, '--out', str(out), '--force']) == 0


def test_what_says_something_else_is_not_kept(tmp_path: Path, capsys, monkeypatch) -> None:
    bad = [Comparison('dense map, picture', 2e-4)]
    monkeypatch.setattr(timm_folder, '_load_back', lambda *args: bad)
    assert main(['export', *TINY, '--out', str(tmp_path / 'out')]) == 1
    error = capsys.readouterr().err
    assert 'expected differences up to 0.0001' in error
    assert '2.0e-04 in dense map, picture; nothing was kept' in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['open-clip', 'random'], 'expected --model, or --config'),
        (
            ['hf', *SHIPPED, '--size', '64'],
            '--graphs: expected them with onnx only',
        ),
        (['hf', *SHIPPED, '--half'], '--half: expected it with open-clip only'),
        (['hf', 'x.pth', '--config', 'a.py'], '--config: expected onnx and settings'),
        (['onnx', 'x.pth', '--config', 'a.py', '--graphs', 'text'], 'got --graphs'),
        (['onnx', *SHIPPED, '--size', '60x64'], 'multiples of the patch of 8 px, got 60x64'),
        (['onnx', *SHIPPED, '--dense-mode', 'none'], "a dense mode out of .*, got 'none'"),
        (
            ['onnx', *TINY[1:], '--graphs', 'text'],
            'expected a text tower',
        ),
        (['open-clip', 'random', '--model', 'timm/test_vit'], 'an image tower of timm'),
        (['hf', 'random', '--model', 'timm/test_vit'], 'or Dinov2Model, got test_vit; export it'),
        (['timm', *SHIPPED], "which is open_clip's own"),
        (['timm', 'lost.pth', '--model', 'timm/test_vit'], r'weight file at lost\.pth, found none'),
        (['onnx', *SHIPPED, '--image', 'lost.jpg'], r'lost\.jpg'),
    ],
)
def test_wrong_input_is_a_sentence(argv, message, tmp_path: Path, capsys) -> None:
    out = tmp_path / 'out'
    assert main(['export', *argv, '--out', str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('python -m refineclip export: error: ')
    assert re.search(message, error), error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('text', ['0', '64x', 'x64', '64x0', '-64', '64.5', 'large'])
def test_sizes_that_are_none_end_the_command_line(text: str, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit, match='2'):
        main(['export', 'onnx', *SHIPPED, '--out', str(tmp_path / 'out'), f'--size={text}'])
    assert 'expected pixels such as 336 or 448x672' in capsys.readouterr().err


def test_sizes_are_height_by_width() -> None:
    assert image_size('336') == (336, 336)
    assert image_size('448x672') == (448, 672)


def test_a_refined_encoder_alone_asks_for_its_text(tmp_path: Path, capsys) -> None:
    refined = tmp_path / 'refined.pth'
    torch.save(RefinerCLIP('microworld-clip', 'shipped').state_dict(), refined)
    argv = ['export', 'open-clip', str(refined), '--model', 'microworld-clip']
    assert main([*argv, '--out', str(tmp_path / 'out')]) == 2
    assert 'name its weights with --text-pretrained' in capsys.readouterr().err
    assert main([*argv, '--text-pretrained', 'shipped', '--out', str(tmp_path / 'out')]) == 0


def test_a_missing_library_is_named_with_its_command(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert main(['export', 'onnx', *SHIPPED, '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert 'expected onnx and onnxruntime and onnxscript for export, got none; pip install' in error


def test_help_lists_the_formats() -> None:
    said = make_parser().format_help()
    assert 'open-clip  a folder for open_clip' in said
    assert '$ python -m refineclip export onnx' in said
