"""What the tabs compute, free of the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refineclip.commands.app import pictures
from refineclip.commands.app.board import Card, Panel, Token, card_html, cards_html, panel_html
from refineclip.commands.app.detect import Detectors
from refineclip.commands.app.link import Limits, View, from_query, to_query
from refineclip.commands.app.look import components, similarities
from refineclip.commands.app.maps import DenseMaps, seen_by
from refineclip.commands.app.pictures import Session, read_bounded, show
from refineclip.commands.app.words import Words
from refineclip.encoders import RefinerCLIP
from tests.test_visualization.toys import halves, noise

DEFAULT = View(('a', 'b'), words=('fish',))
LIMITS = Limits(('a', 'b'), ('plain', 'value'), num_samples=3, num_blocks=5)


def query_of(text: str) -> dict[str, list[str]]:
    from urllib.parse import parse_qs

    return parse_qs(text, keep_blank_values=True)


@pytest.mark.parametrize(
    'view',
    [
        DEFAULT,
        View(
            *(('b',), 2, 1, (0.25, 0.75), 1, 'plain', 3, True),
            *(('st. bernard;dog', 'Zebra & Löwe', '斑马'), 'max', 0.35),
        ),
        View((), image=1, words=()),
    ],
)
def test_link_and_back(view: View) -> None:
    assert from_query(query_of(to_query(view, DEFAULT)), DEFAULT, LIMITS) == (view, [])


def test_link_holds_what_differs() -> None:
    assert to_query(DEFAULT, DEFAULT) == ''
    assert to_query(View(('a',), words=('a b',)), DEFAULT) == 'rows=a&words=a+b'


@pytest.mark.parametrize(
    ('query', 'message'),
    [
        ('rows=c', r"rows: expected some of \['a', 'b'\], got \['c'\]"),
        ('image=3', "image: expected a number below 3, got '3'"),
        ('image=-1', 'image: expected a number'),
        ('point=2,0', 'point: expected a point inside the image, got 2, 0'),
        ('point=nan,0', 'point: expected a point inside'),
        ('point=a', "point: expected X,Y, got 'a'"),
        ('mode=magic', 'mode: expected one of'),
        ('block=5', 'block: expected a number below 5'),
        ('threshold=1', r'threshold: expected a probability in \[0, 1\)'),
        ('threshold=many', 'threshold: '),
        ('synonyms=all', 'synonyms: expected one of'),
    ],
)
def test_wrong_links_are_told_and_not_followed(query: str, message: str) -> None:
    view, wrong = from_query(query_of(query), DEFAULT, LIMITS)
    assert view == DEFAULT
    assert len(wrong) == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(wrong[0])


def test_foreign_keys_and_lost_images_of_a_link() -> None:
    assert from_query(query_of('__theme=dark&utm=1'), DEFAULT, LIMITS) == (DEFAULT, [])
    assert from_query({'source': ['1']}, DEFAULT, LIMITS)[0].source == 0


def test_similarity_by_hand() -> None:
    """The right half of either image is alike to a token of the right half of the first."""
    maps = {'a': [halves(), halves(width=8)], 'b': [halves(), halves(width=8)]}
    colours, limits = similarities(maps, (0.9, 0.1), 0, own_scale=False)
    assert (limits.vmin, limits.vmax) == (0, 1)
    for own in colours.values():
        for one in own:
            half = one.shape[1] // 2
            assert len(np.unique(one[:, :half].reshape(-1, 3), axis=0)) == 1
            assert len(np.unique(one[:, half:].reshape(-1, 3), axis=0)) == 1
            assert one[0, 0].sum() < one[0, -1].sum()  # dark is unlike
    assert colours['a'][1].shape == (4, 8, 3)
    assert similarities(maps, (0.9, 0.1), 0, own_scale=True)[1] is None
    with pytest.raises(ValueError, match='expected a point'):
        similarities(maps, (1.1, 0), 0, own_scale=False)


def test_components_leave_out_rows_of_another_width() -> None:
    maps = {'a': [noise(0)], 'b': [noise(1)], 'colour': [noise(2, dims=4)]}
    assert set(components(maps, own_scale=False)) == {'a', 'b'}
    assert set(components(maps, own_scale=True)) == set(maps)


def test_maps_are_kept_within_their_bytes() -> None:
    encoder = RefinerCLIP('microworld-clip', None).eval()
    maps = DenseMaps({'a': encoder}, max_bytes=2 * 128 * 8 * 8 * 4)
    images = [show(Image.new('RGB', (64, 64), (i, 0, 0)), str(i), 64, 8) for i in range(3)]
    first = maps.of('a', images[0], 'value', None)
    assert maps.of('a', images[0], 'value', None) is first
    assert maps.of('a', images[0], 'plain', None) is not first
    maps.of('a', images[1], 'value', None)  # of three maps two have room
    assert len(maps.kept) == 2
    assert maps.of('a', images[0], 'value', None) is not first
    assert maps.num_bytes <= maps.max_bytes
    assert encoder.dense_mode == 'value'  # of the row itself nothing changes


def test_mode_and_block_of_a_row() -> None:
    encoder = RefinerCLIP('microworld-clip', None, refiner=dict(num_blocks=2)).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        tapped = seen_by(encoder, 'value', 1).dense(images)
        tokens, grid = encoder.visual.embed(images)
        expected = encoder.embedding_map(encoder.visual.run(tokens, grid, 0, 2), grid)
    torch.testing.assert_close(tapped, expected)
    with pytest.raises(ValueError, match=r'block 3 is one of those that the Refiner replaces'):
        seen_by(encoder, 'value', 3)
    with pytest.raises(ValueError, match='expected a dense mode'):
        seen_by(encoder, 'magic', None)


def save(folder: Path, size: tuple[int, int] = (64, 48), name: str = 'a.png') -> Path:
    Image.new('RGB', size, (90, 40, 20)).save(folder / name)
    return folder / name


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path)
    assert read_bounded(path, 8).size == (64, 48)
    monkeypatch.setattr(pictures, 'MAX_PIXELS', 64 * 48 - 1)
    with pytest.raises(ValueError, match=r'^a.png: 64 x 48 px, more than 0 million pixels$'):
        read_bounded(path, 8)
    monkeypatch.setattr(pictures, 'MAX_BYTES', 10)
    with pytest.raises(ValueError, match=r'^a.png: more than 0 MB$'):
        read_bounded(path, 8)


def test_files_that_are_no_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'^a.png: 1 x 1 px, smaller than 8 px$'):
        read_bounded(save(tmp_path, (1, 1)), 8)
    (tmp_path / 'page.jpg').write_text('<html>')
    with pytest.raises(ValueError, match=r'^page.jpg: no image that can be read$'):
        read_bounded(tmp_path / 'page.jpg', 8)
    with pytest.raises(ValueError, match=r'^gone.png: '):
        read_bounded(tmp_path / 'gone.png', 8)


def test_exif_turns_an_upload(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (64, 32)).save(tmp_path / 'a.jpg', exif=exif)
    shown = show(read_bounded(tmp_path / 'a.jpg', 8), 'a', 64, 8)
    assert shown.picture.shape == (64, 32, 3)


def test_session() -> None:
    first, second = (show(Image.new('RGB', (64, 64), (i, 0, 0)), str(i), 64, 8) for i in range(2))
    session = Session().put(first, second=True)  # there is no first one yet
    assert session.images == (first,)
    both = session.put(second, second=True)
    assert both.images == (first, second)
    assert both.put(second, second=False).images == (second, second)
    assert both.without_second() == session


class ToyEmbedder:
    """Embeds a text as the unit vector of its first letter; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, names: list[str]) -> torch.Tensor:
        self.asked += names
        return torch.stack([torch.eye(5)['abcde'.index(name[0])] for name in names])


def test_words_by_hand() -> None:
    words = Words(ToyEmbedder())  # type: ignore[arg-type]
    found = words.vocabulary(['cat', 'bee;ape'], 'max')
    labels = words.labels(halves(), found, (8, 12), 0.0)
    assert (labels == 1).all()  # ape for the left half, bee for the right
    sure = words.vocabulary(['ape', 'cat'], 'max')
    labels = words.labels(halves(), sure, (8, 12), 0.9)
    assert (labels[:, :4] == 0).all()
    assert (labels[:, 8:] == -1).all()  # as unlike the one as the other
    heat, limits = words.heat_maps({'x': halves()}, found)
    assert [one.shape for one in heat['x']] == [(4, 6, 3)] * 2
    assert (limits[1].vmin, limits[1].vmax) == (1, 1)
    assert words.embedder.asked == ['cat', 'bee', 'ape']


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['a'] * 2, "'a'.* more than once"),
        ([' '], 'expected a name for every class'),
        (['a' * 101], 'up to 100 letters each'),
        ([f'a{i}' for i in range(51)], 'expected up to 50, got 51'),
        (['a\x00'], 'control characters'),
    ],
)
def test_wrong_words(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Words(ToyEmbedder()).vocabulary(words, 'mean')  # type: ignore[arg-type]


def test_what_was_typed_is_escaped() -> None:
    evil = '<img src=x onerror=alert(1)>"\''
    panel = Panel(np.zeros((4, 4, 3), np.uint8), 0, (4, 4), (32, 32), evil)
    text = cards_html([Card(evil, evil, [[panel]], evil)], Token(0, (0.5, 0.5)))
    assert '<img src=x' not in text
    assert text.count('&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;') == 6


def test_mark_is_on_the_token() -> None:
    panel = Panel(np.zeros((4, 8, 3), np.uint8), 0, (4, 8), (32, 64))
    text = panel_html(panel, Token(0, (0.99, 0.5)), 'a')
    assert 'left:87.5%;top:50%;width:12.5%;height:25%' in text
    assert 'aspect-ratio:64/32' in text
    assert 'hidden></span>' in panel_html(panel, Token(1, (0.5, 0.5)), 'a').split('rc-mark')[1][:80]
    assert '<p class="rc-message">why</p>' in card_html(Card('a', message='why'), Token(0, (0, 0)))


def test_detect_says_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match='--detector: expected a file, got'):
        Detectors({'a': (tmp_path / 'config.py', tmp_path / 'a.pth')})
    # mmcv may lack its operators.
    monkeypatch.setattr(
        'refineclip.commands.app.detect._is_installed', lambda name: name in ('mmcv', 'mmdet')
    )
    assert 'start this page with --detector CONFIG CHECKPOINT' in Detectors({}).lacking()
    monkeypatch.setattr('refineclip.commands.app.detect._is_installed', lambda name: False)
    assert 'python -m refineclip doctor' in Detectors({}).lacking()
