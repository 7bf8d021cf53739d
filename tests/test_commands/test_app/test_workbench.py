"""Tabs and figures of the embedded world; figures equal those of draw to the byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image

from refineclip.commands import draw
from refineclip.datasets.microworld import Microworld
from tests.test_commands.test_app.toys import MODELS, rows_page

pytest.importorskip('gradio', reason='needs gradio, of the extra [app]')


def tell(*_: object) -> None:
    """Nobody looks."""


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('photos')
    for index in range(2):
        Image.fromarray(Microworld('val')[index].image).save(path / f'{index}.png')
    return path


@pytest.fixture(scope='module')
def page(folder: Path):
    return rows_page(folder)


def test_a_row_that_does_not_load_is_a_message(page) -> None:
    look = page.bench.look(page.samples[:1], page.default, tell)
    assert look.count('class="rc-card"') == 3
    assert look.count('class="rc-panel"') == 4
    assert 'expected a weight file at no/such/file.pth, found none' in look
    named = page.bench.name(page.samples[:1], replace(page.default, words=('fish', 'sand')), tell)
    assert named.count('rc-message') == 1
    assert named.count('class="rc-panel"') == 2 * (1 + 2)


def test_a_mode_that_fails_takes_its_row_down(page) -> None:
    def of(row: str, *args: object) -> None:
        raise RuntimeError(f'out of memory in {row}')

    with mock.patch.object(page.bench.maps, 'of', of):
        look = page.bench.look(page.samples[:1], page.default, tell)
    assert look.count('rc-message') == 3
    assert 'out of memory in earlier' in look


def test_two_images(page) -> None:
    look = page.bench.look(page.samples, replace(page.default, source=1), tell)
    assert look.count('data-image="1"') == look.count('data-image="0"') == 4
    assert 'rc-wide' in look


def test_hints(page) -> None:
    assert 'Choose one or more rows' in page.bench.look(
        page.samples[:1], replace(page.default, rows=()), tell
    )
    assert 'Write words above' in page.bench.name(page.samples[:1], page.default, tell)


def test_any_script_can_be_a_word(page) -> None:
    words = ('斑马', 'لَيْث', 'Löwe', '🦓')
    named = page.bench.name(page.samples[:1], replace(page.default, words=words), tell)
    assert all(word in named for word in words)


@pytest.mark.parametrize(
    ('kind', 'images', 'changes', 'options'),
    [
        ('affinity', 1, dict(point=(0.2, 0.4)), '--token 0.2 0.4'),
        ('affinity', 2, dict(point=(0.2, 0.4), source=1), '--token 0.2 0.4 --token-of 2'),
        ('pca', 1, {}, ''),
        ('pca', 2, dict(own_scale=True, mode='plain'), '--own-scale --dense-mode plain'),
        (
            *('segmentation', 2),
            dict(words=('fish;boat', 'sand'), synonyms='max', threshold=0.6),
            '--synonyms max --prob-thd 0.6',
        ),
        ('segmentation', 1, dict(words=('fish;boat', 'sand')), ''),
    ],
)
def test_figures_are_those_of_draw(
    page, folder: Path, tmp_path: Path, kind: str, images: int, changes: dict, options: str
) -> None:
    view = replace(page.default, **changes)
    found = page.bench.figure(kind, page.samples[:images], view)
    files = [str(folder / f'{index}.png') for index in range(images)]
    out = tmp_path / 'a.png'
    argv = [
        kind,
        *MODELS[:-1],
        '--images',
        *files,
        '--texts',
        'fish;boat . sand',
        '--out',
        str(out),
    ]
    assert draw.main([*argv, *options.split()]) == 0
    assert found == out.read_bytes()
