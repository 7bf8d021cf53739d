"""What the page computes, free of its layout: cards of each tab, and figures to take away."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refineclip.datasets.vocabularies import title_of
from refineclip.visualization import affinity_figure, pca_figure, segmentation_figure
from refineclip.visualization.segmentation_maps import naming_caption, overlay
from refineclip.visualization.style import area_colours, png_bytes

from .board import (
    Card,
    Panel,
    Token,
    cards_html,
    colour_bar,
    hint_html,
    word_legend,
)
from .detect import Detectors
from .link import View
from .look import Colours, components, similarities
from .maps import DenseMap, DenseMaps
from .pictures import Shown
from .words import Vocabulary, Words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Tell = Callable[[float, str], None]
# What takes one row down and leaves the page: a mode it lacks, no memory, maps that are not finite.
ROW_ERRORS = (ValueError, TypeError, RuntimeError)
FIGURES = ('affinity', 'pca', 'segmentation')


@dataclass
class Encoded:
    """Maps of the rows of a view, one per image, and why others have none."""

    maps: dict[str, list[DenseMap]]
    messages: dict[str, str]

    @property
    def features(self) -> dict[str, list]:
        """Row -> tensors (D, h, w)."""
        return {row: [one.features for one in own] for row, own in self.maps.items()}

    def note(self, row: str) -> str:
        """Time of a row per image."""
        return ' + '.join(f'{one.milliseconds:.0f}' for one in self.maps[row]) + ' ms'


class Workbench:
    """Encoders, words and detectors of a page; one caller at a time.

    Args:
        maps: The encoders that could be loaded.
        failed: Row -> why the others could not.
        words: Names pixels; a sentence where there is no text tower.
        detectors: Find boxes.
    """

    def __init__(
        self,
        maps: DenseMaps,
        failed: Mapping[str, str],
        words: Words | str,
        detectors: Detectors,
    ) -> None:
        self.maps, self.failed, self.words, self.detectors = maps, failed, words, detectors
        self.components: tuple[object, Colours] = (None, {})

    def encode(self, images: Sequence[Shown], view: View, tell: Tell) -> Encoded:
        """Maps of all rows of a view; what has not been encoded before is told."""
        found: dict[str, list[DenseMap]] = {}
        messages: dict[str, str] = {}
        for position, row in enumerate(view.rows):
            if row in self.failed:
                messages[row] = self.failed[row]
                continue
            tell(position / len(view.rows), f'encoding with {row}')
            try:
                found[row] = [self.maps.of(row, one, view.mode, view.block) for one in images]
            except ROW_ERRORS as error:
                messages[row] = str(error)
        return Encoded(found, messages)

    def look(self, images: Sequence[Shown], view: View, tell: Tell) -> str:
        """Cards of similarity to the token and of principal components."""
        encoded = self.encode(images, view, tell)
        token = Token(view.source, view.point)
        if not view.rows:
            return hint_html('Choose one or more rows.')
        cards = {row: Card(row, message=message) for row, message in encoded.messages.items()}
        if not encoded.maps:
            return cards_html(list(cards.values()), token)
        features = encoded.features
        alike, limits = similarities(features, view.point, view.source, view.own_scale)
        colours = self._components(images, view, features)
        for row, own in features.items():
            cards[row] = card = Card(row, encoded.note(row))
            card.lines.append(_panels(alike[row], images, 'similarity'))
            if row in colours:
                card.lines.append(_panels(colours[row], images, 'PCA'))
            else:
                card.message = (
                    f'{len(own[0])} channels, not as many as the first row: no shared basis. '
                    'Tick "own colours" for one of its own.'
                )
        text = (
            'cosine to the marked token, each panel stretched to its own range'
            if limits is None
            else 'cosine to the marked token, one range for all panels'
        )
        ordered = [cards[row] for row in view.rows]
        return cards_html(ordered, token, colour_bar(limits, text), wide=len(images) > 1)

    def _components(
        self, images: Sequence[Shown], view: View, features: dict[str, list]
    ) -> Colours:
        """The last components are kept: a click changes none of them."""
        keys = tuple(one.key for one in images)
        key = (keys, tuple(features), view.mode, view.block, view.own_scale)
        if self.components[0] != key:
            self.components = (key, components(features, view.own_scale))
        return self.components[1]

    def name(self, images: Sequence[Shown], view: View, tell: Tell) -> str:
        """Cards of named pixels and of a heat map per word, of the first image."""
        if isinstance(self.words, str):
            return hint_html(self.words)
        if not view.words:
            return hint_html('Write words above; synonyms of one go into one chip, a;b.')
        vocabulary = self.words.vocabulary(view.words, view.synonyms)
        encoded = self.encode(images[:1], view, tell)
        named, messages = self._label(images[:1], view, encoded, vocabulary)
        cards = {
            row: Card(row, message=message)
            for row, message in {**encoded.messages, **messages}.items()
        }
        token = Token(view.source, view.point)
        titles = [title_of(name) for name in vocabulary.names]
        used = _colours_of({row: own for row, (own, _) in named.items()})
        features = {row: encoded.features[row][0] for row in named}
        heat, _ = self.words.heat_maps(features, vocabulary) if named else ({}, [])
        for row, ([labels], taken) in named.items():
            painted = (255 * overlay(images[0].picture, labels, used)).round().astype('uint8')
            card = Card(row, f'{encoded.note(row)} + {taken:.0f} ms words')
            card.lines.append(_panels([painted], images, '', encoded.maps[row]))
            card.lines.append(
                [_panels([one], images, titles[i])[0] for i, one in enumerate(heat[row])]
            )
            cards[row] = card
        legend = word_legend(titles, used) + colour_bar(
            None, 'heat maps: cosine with the word, one range for all rows'
        )
        return cards_html([cards[row] for row in view.rows], token, legend)

    def _label(
        self, images: Sequence[Shown], view: View, encoded: Encoded, vocabulary: Vocabulary
    ) -> tuple[dict[str, tuple[list, float]], dict[str, str]]:
        """Row -> label maps of the images and milliseconds; and why others have none."""
        assert isinstance(self.words, Words)
        named: dict[str, tuple[list, float]] = {}
        messages: dict[str, str] = {}
        for row, own in encoded.features.items():
            if not hasattr(self.maps.encoders[row], 'visual'):
                messages[row] = 'Mean colours have no text space.'
                continue
            started = time.perf_counter()
            try:
                labels = [
                    self.words.labels(one, vocabulary, image.picture.shape[:2], view.threshold)
                    for one, image in zip(own, images, strict=True)
                ]
            except ROW_ERRORS as error:
                messages[row] = str(error)
                continue
            named[row] = labels, 1000 * (time.perf_counter() - started)
        return named, messages

    def detect(self, shown: Shown, words: Sequence[str], least: float, tell: Tell) -> str:
        """Cards of boxes."""
        if lacking := self.detectors.lacking():
            return hint_html(lacking)
        if not words:
            return hint_html('Write words above.')
        cards = []
        for position, name in enumerate(self.detectors.files):
            tell(position / len(self.detectors.files), name)
            try:
                found = self.detectors.detect(name, shown.whole, words, least)
            except (*ROW_ERRORS, OSError) as error:
                cards.append(Card(name, message=str(error)))
                continue
            size = (found.picture.shape[0], found.picture.shape[1])
            panel = Panel(found.picture, -1, (1, 1), size, found.summary)
            cards.append(Card(name, f'{found.milliseconds:.0f} ms', [[panel]]))
        return cards_html(cards, Token(0, (0.5, 0.5)))

    def figure(self, kind: str, images: Sequence[Shown], view: View) -> bytes:
        """The figure that ``draw`` makes of a view, as a PNG file.

        Args:
            kind: ``'affinity'``, ``'pca'`` or ``'segmentation'``.
            images: Images of the session.
            view: What is shown.

        Raises:
            ValueError: If there is nothing to draw.
        """
        encoded = self.encode(images, view, lambda *_: None)
        if not encoded.maps:
            raise ValueError('expected a row with a map, got none')
        return png_bytes(self._draw(kind, images, view, encoded))

    def _draw(self, kind: str, images: Sequence[Shown], view: View, encoded: Encoded) -> Figure:
        pictures, features = [one.picture for one in images], encoded.features
        if kind == 'affinity':
            source = view.source if len(images) > 1 else None
            return affinity_figure(
                pictures, features, view.point, not view.own_scale, source=source
            )
        if kind == 'pca':
            return pca_figure(pictures, features, not view.own_scale)
        if isinstance(self.words, str):
            raise ValueError(self.words)
        vocabulary = self.words.vocabulary(view.words, view.synonyms)
        named, _ = self._label(images, view, encoded, vocabulary)
        titles = [title_of(name) for name in vocabulary.names]
        labels = {row: own for row, (own, _) in named.items()}
        caption = naming_caption(len(titles), view.threshold)
        return segmentation_figure(pictures, labels, titles, caption)


def _panels(
    colours: Sequence, images: Sequence[Shown], label: str, maps: Sequence[DenseMap] | None = None
) -> list[Panel]:
    """Panels of images whose colours are those of tokens, or of pixels beside their maps."""
    panels = []
    for index, one in enumerate(colours):
        height, width = images[index].picture.shape[:2]
        grid = one.shape[:2] if maps is None else maps[index].features.shape[1:]
        panels.append(Panel(one, index, (grid[0], grid[1]), (height, width), label))
    return panels


def _colours_of(labels: Mapping[str, Sequence]) -> dict[int, str]:
    """Colours of the words that occur, as figures choose them."""
    present = sorted({int(i) for own in labels.values() for one in own for i in set(one.flat)})
    present = [index for index in present if index >= 0]
    return dict(zip(present, area_colours(len(present)), strict=True))
