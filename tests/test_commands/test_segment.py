"""``segment``: pictures and label maps of any words, from a CLIP or from a config."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg.models')

from mmseg.models.segmentors import EncoderDecoder

from refineclip.__main__ import COMMANDS
from refineclip.commands import segment
from refineclip.encoders import RefinerCLIP
from tests.test_commands.test_evaluate.test_segmentation import CONFIG
from tests.test_segmentation.toy_text import CLIP, write_image

pytestmark = pytest.mark.mm
RESNET = (
    "backbone=dict(type='ResNet', depth=18), "
    "decode_head=dict(type='FCNHead', in_channels=512, channels=4, num_classes=2)"
)
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
    argv = [str(folder), '--texts', 'a', '--config', str(tmp_path / 'fixed.py')]
    for model, message in (
        (
            "type='BaseDataPreprocessor', _scope_='mmengine'",
            'the config of a segmentor, got one of',
        ),
        (f"type='EncoderDecoder', {RESNET}", 'EncoderDecoder, whose classes are fixed'),
    ):
        (tmp_path / 'fixed.py').write_text(f'{text}model = dict({model})\n')
        assert segment.main([*argv, '--out', str(tmp_path / 'out')]) == 2
        assert message in capsys.readouterr().err


def test_heads_of_no_checkpoint_are_refused(
    folder: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CONFIG[: CONFIG.index('model = ')] + CONFIG[CONFIG.index('pipeline = ') :]
    (tmp_path / 'trained.py').write_text(f"{text}model = dict(type='EncoderDecoder', {RESNET})\n")
    monkeypatch.setattr(EncoderDecoder, 'set_vocabulary', lambda *_: None, raising=False)
    argv = [str(folder), '--texts', 'a', '--config', str(tmp_path / 'trained.py')]
    assert segment.main([*argv, '--out', str(tmp_path / 'out')]) == 2
    assert 'the heads of EncoderDecoder would be random' in capsys.readouterr().err


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


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'AVIF', 'TIFF'])
def test_labels_lie_on_the_picture_as_it_is_shown(tmp_path: Path, kind: str) -> None:
    """Stored on its side with an orientation, and stored as it is shown: the same labels."""
    write_image(tmp_path / 'shown' / 'a.png', (96, 64))
    lossless = dict(lossless=True) if kind == 'WEBP' else dict(quality=100, subsampling='4:4:4')
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / 'stored').mkdir()
    with Image.open(tmp_path / 'shown' / 'a.png') as shown:
        stored = shown.transpose(Image.Transpose.ROTATE_90)
        stored.save(tmp_path / 'stored' / 'a.jpg', kind, exif=exif.tobytes(), **lossless)
    argv = ['--texts', 'star . moon . ring . square . red . blue', *MODEL]
    argv += ['--short-side', '64', '--window', '32', '32']
    for folder in ('shown', 'stored'):
        out = ['--out', str(tmp_path / folder / 'out')]
        assert segment.main([str(tmp_path / folder), *argv, *out]) == 0
    a, b = (labels(tmp_path / folder / 'out', 'a.png') for folder in ('shown', 'stored'))
    assert a.shape == b.shape == (64, 96)
    assert (a == b).mean() > 0.9
    assert (a == a[::-1, ::-1]).mean() < 0.9  # a turn would show


def test_equal_names_and_bad_files(tmp_path: Path, capsys) -> None:
    for name in ('cam1/x.jpg', 'cam2/x.jpg', 'cam2/x.png'):
        write_image(tmp_path / name, (70, 50))
    Image.new('RGB', (6000, 1)).save(tmp_path / 'cam1' / 'thin.png')
    Image.new('RGB', (1, 1)).save(tmp_path / 'cam1' / 'dot.png')
    (tmp_path / 'cam1' / 'empty.jpg').write_bytes(b'')
    odd = tmp_path / 'cam1' / os.fsdecode(b'caf\xe9.png')
    write_image(odd, (40, 40))
    argv = ['--texts', 'star . moon', *MODEL, '--short-side', '32', '--window', '0', '0']
    folders = [str(tmp_path / 'cam1'), str(tmp_path / 'cam2')]
    assert segment.main([*folders, *argv, '--out', str(tmp_path / 'out')]) == 1
    assert 'warning: 2 of 7 images were skipped' in capsys.readouterr().err
    found = {
        str(p.relative_to(tmp_path / 'out' / 'labels'))
        for p in (tmp_path / 'out').rglob('*')
        if p.is_file() and 'labels' in p.parts
    }
    expected = {'cam1/x.png', 'cam1/dot.png', 'cam2/x.jpg.png', 'cam2/x.png.png'}
    assert found == {*expected, f'cam1/{odd.name}'}


def test_scores_that_are_not_finite_are_an_error(folder: Path, tmp_path: Path, capsys) -> None:
    import torch

    state = RefinerCLIP(**CLIP).state_dict()
    for value in state.values():
        value.view(-1)[:1] = float('nan')
    torch.save({'state_dict': state}, tmp_path / 'refined_iter_9.pth')
    argv = [str(folder), '--texts', 'star', *MODEL, '--checkpoint']
    argv += [str(tmp_path / 'refined_iter_9.pth'), '--out', str(tmp_path / 'out')]
    assert segment.main(argv) == 2
    assert f'got NaN or infinity for {folder / "a.jpg"}' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['none.jpg', '--texts', 'a', *MODEL], 'no such file'),
        (['FOLDER', '--texts', ' . ', *MODEL], 'expected'),
        (['FOLDER', '--texts', 'a . a', *MODEL], 'more than once'),
        (['FOLDER', '--texts', 'a', *MODEL[:2]], 'expected --pretrained with --model'),
        (['FOLDER', '--texts', 'a'], '--model (with --pretrained) or --config'),
        (['FOLDER', '--texts', 'a', '--config', 'c.py', '--dense-mode', 'plain'], '--dense-mode'),
        (['FOLDER', '--texts', 'a', '--config', 'c.py'], 'expected a config file, got c.py'),
        (['FOLDER', '--texts', 'a', *MODEL, '--window', '8', '16'], 'stride up to'),
        (['FOLDER', '--texts', 'a', *MODEL, '--dense-mode', 'none'], 'dense mode'),
    ],
)
def test_wrong_input(folder: Path, tmp_path: Path, capsys, argv: list[str], message: str) -> None:
    argv = [str(folder) if word == 'FOLDER' else word for word in argv]
    assert segment.main([*argv, '--out', str(tmp_path / 'out')]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_out_that_cannot_be_written(folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / 'file').write_text('')
    for out in ('file', 'file/out'):
        argv = [str(folder), '--texts', 'a', *MODEL, '--out', str(tmp_path / out)]
        assert segment.main(argv) == 2
        assert '--out: expected a folder to write' in capsys.readouterr().err
