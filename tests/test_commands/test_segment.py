"""``segment``: pictures and label maps of any words, from a CLIP or from a config."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg.models')

from refineclip.__main__ import COMMANDS
from refineclip.commands import segment
from refineclip.encoders import RefinerCLIP
from tests.test_commands.test_evaluate.test_segmentation import CONFIG
from tests.test_segmentation.toy_text import CLIP, write_image

pytestmark = pytest.mark.mm
MODEL = ['--model', CLIP['model'], '--pretrained', CLIP['pretrained'], '--templates', 'photo']


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image(tmp_path / 'photos' / 'a.jpg', (70, 50))
    write_image(tmp_path / 'photos' / 'deep' / 'b.png', (50, 70), seed=1)
    return tmp_path / 'photos'


def labels(out: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(out / 'labels' / name))


def test_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'out'
    argv = [str(folder), '--texts', 'star . moon;disc', *MODEL, '--out', str(out)]
    assert segment.main([*argv, '--short-side', '64', '--window', '32', '16']) == 0
    text = capsys.readouterr().out
    assert f'{folder / "a.jpg"}: ' in text
    assert '%' in text
    assert labels(out, 'a.png').shape == (50, 70)
    assert labels(out, 'deep/b.png').shape == (70, 50)
    assert set(np.unique(labels(out, 'a.png'))) <= {0, 1}
    picture = Image.open(out / 'vis' / 'deep' / 'b.png')
    assert min(picture.size) > 100
    assert 'segment' in COMMANDS


def test_words_of_a_file_and_whole_images(folder: Path, tmp_path: Path) -> None:
    (tmp_path / 'words.txt').write_text('star\nmoon; disc\nbackground\n')
    argv = [str(folder / 'a.jpg'), '--vocabulary', str(tmp_path / 'words.txt'), *MODEL]
    argv += ['--window', '0', '0', '--short-side', '64', '--dense-mode', 'self-self']
    argv += ['--background', 'square . ring', '--prob-thd', '0.99', '--out', str(tmp_path / 'out')]
    assert segment.main(argv) == 0
    # Four texts that cosines between -1 and 1 can hardly make this sure of.
    assert 2 in np.unique(labels(tmp_path / 'out', 'a.png'))


def test_refined_encoder_changes_the_map(folder: Path, tmp_path: Path) -> None:
    import torch

    state = RefinerCLIP(**CLIP).state_dict()
    state = {key: value + 0.2 * torch.randn_like(value) for key, value in state.items()}
    torch.save({'state_dict': state}, tmp_path / 'refined_iter_9.pth')
    argv = [str(folder / 'a.jpg'), '--texts', 'star . moon . ring . square', *MODEL]
    argv += ['--short-side', '64', '--window', '0', '0']
    assert segment.main([*argv, '--out', str(tmp_path / 'plain')]) == 0
    argv += ['--checkpoint', str(tmp_path / 'refined_iter_9.pth')]
    assert segment.main([*argv, '--out', str(tmp_path / 'refined')]) == 0
    assert (labels(tmp_path / 'plain', 'a.png') != labels(tmp_path / 'refined', 'a.png')).any()


def test_config(folder: Path, tmp_path: Path) -> None:
    (tmp_path / 'toy_config.py').write_text(CONFIG)
    argv = [str(folder / 'a.jpg'), '--texts', 'star . moon', '--out', str(tmp_path / 'out')]
    assert segment.main([*argv, '--config', str(tmp_path / 'toy_config.py')]) == 0
    assert labels(tmp_path / 'out', 'a.png').shape == (50, 70)


def test_model_of_fixed_classes(folder: Path, tmp_path: Path, capsys) -> None:
    text = CONFIG[: CONFIG.index('model = ')] + CONFIG[CONFIG.index('pipeline = ') :]
    text += "model = dict(type='BaseDataPreprocessor', _scope_='mmengine')\n"
    (tmp_path / 'fixed.py').write_text(text)
    argv = [str(folder), '--texts', 'a', '--config', str(tmp_path / 'fixed.py')]
    assert segment.main([*argv, '--out', str(tmp_path / 'out')]) == 2
    assert 'whose classes are fixed' in capsys.readouterr().err


@pytest.mark.parametrize('count', [1, 16, 171, 847])
def test_every_word_has_a_colour_of_its_own(count: int) -> None:
    colours = segment.word_colours(count)
    assert list(colours) == list(range(count))
    # Of 847 words a few look alike to the last bit.
    assert len(set(colours.values())) > 0.95 * count
    assert segment.word_colours(count + 1)[count - 1] == colours[count - 1]


def test_bad_images_are_skipped_and_told(folder: Path, tmp_path: Path, capsys) -> None:
    (folder / 'broken.jpg').write_bytes(b'nothing')
    argv = [str(folder), '--texts', 'star', *MODEL, '--out', str(tmp_path / 'out')]
    assert segment.main([*argv, '--short-side', '32', '--window', '0', '0']) == 1
    assert 'skipped' in capsys.readouterr().err
    assert labels(tmp_path / 'out', 'a.png').max() == 0


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['none.jpg', '--texts', 'a', *MODEL], 'no such file'),
        (['FOLDER', '--texts', ' . ', *MODEL], 'expected'),
        (['FOLDER', '--texts', 'a . a', *MODEL], 'more than once'),
        (['FOLDER', '--texts', 'a'], '--model (with --pretrained) or --config'),
        (['FOLDER', '--texts', 'a', '--config', 'c.py', '--dense-mode', 'plain'], '--dense-mode'),
        (['FOLDER', '--texts', 'a', '--config', 'c.py'], 'expected a file at c.py'),
        (['FOLDER', 'FOLDER', '--texts', 'a', *MODEL], 'one folder at a time'),
        (['FOLDER', '--texts', 'a', *MODEL, '--window', '8', '16'], 'stride up to'),
        (['FOLDER', '--texts', 'a', *MODEL, '--dense-mode', 'none'], 'dense mode'),
    ],
)
def test_wrong_input(folder: Path, tmp_path: Path, capsys, argv: list[str], message: str) -> None:
    argv = [str(folder) if word == 'FOLDER' else word for word in argv]
    assert segment.main([*argv, '--out', str(tmp_path / 'out')]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
