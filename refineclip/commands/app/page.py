"""The page: layout, and which part is computed anew when something changes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from refineclip.encoders.towers.dense_modes import list_dense_modes

from .board import Panel, Token, pictures_html
from .link import Limits, View, check_point, from_query, to_query
from .pictures import Session, Shown, read_bounded, show
from .style import ADDRESS, SAVE, SCRIPT
from .workbench import Workbench

HELP = (
    'Click anywhere in the image: every row is an encoder, and shows which of its tokens resemble '
    'the one there.'
)
QUEUE = 32  # visitors that wait; the next is told to come again
LAST_BLOCK = -1
FIGURE_NAMES = {'affinity': 'similarity', 'pca': 'PCA', 'segmentation': 'words'}
# Sessions without a visit keep their images this long, in seconds.
SESSION_SECONDS = 3600
# All events that compute: one at a time, by one worker.
WORKER: dict[str, Any] = dict(
    concurrency_id='towers', concurrency_limit=1, api_visibility='private'
)


class Page:
    """A page over a workbench.

    Args:
        bench: What computes.
        samples: Titles and images of the gallery.
        default: The view of an address without a query; its ``rows`` are all there are.
        image_size: Longer side of images in pixels, a multiple of the patch.
        patch_size: Side of a patch in pixels.
        num_blocks: Blocks of the towers.
        note: What is said under the title.
        choices: Words that are offered.
    """

    def __init__(
        self,
        bench: Workbench,
        samples: Sequence[tuple[str, Image.Image]],
        default: View,
        image_size: int,
        patch_size: int,
        num_blocks: int,
        note: str = '',
        choices: Sequence[str] = (),
    ) -> None:
        self.bench, self.default = bench, default
        self.image_size, self.patch_size = image_size, patch_size
        self.num_blocks, self.note, self.choices = num_blocks, note, tuple(choices)
        self.samples = [
            show(image, title, image_size, patch_size, index)
            for index, (title, image) in enumerate(samples)
        ]
        self.limits = Limits(default.rows, list_dense_modes(), len(self.samples), num_blocks)

    def build(self) -> gr.Blocks:
        """Lay out the page and wire it."""
        with gr.Blocks(
            title='refineclip', analytics_enabled=False, delete_cache=(600, SESSION_SECONDS)
        ) as blocks:
            self.session = gr.State(Session(), time_to_live=SESSION_SECONDS)
            about = escape(f'{HELP} {self.note}')
            gr.HTML(f'<div class="rc-head"><h1>refineclip</h1><p>{about}</p></div>')
            with gr.Row():
                with gr.Column(scale=1, min_width=280):
                    self._lay_out_images()
                with gr.Column(scale=3, min_width=320):
                    self._lay_out_controls()
                    with gr.Tabs():
                        self._lay_out_tabs()
            self.link = gr.Textbox(visible='hidden')
            self.file = gr.Textbox(visible='hidden')
            self._wire(blocks)
        return blocks.queue(max_size=QUEUE, api_open=False)

    def _lay_out_images(self) -> None:
        self.pictures = gr.HTML('', js_on_load=SCRIPT, elem_id='pictures')
        self.slot = gr.Radio(
            ['first image', 'second image'], value='first image', label='Put into', container=False
        )
        with gr.Row():
            self.upload = gr.UploadButton('Upload an image', size='sm', elem_id='upload')
            self.remove = gr.Button('No second image', size='sm', elem_id='remove')
        if self.samples:
            self.gallery = gr.Gallery(
                [(one.picture, None) for one in self.samples],
                label='Samples',
                show_label=False,
                columns=4,
                height=230,
                object_fit='cover',
                allow_preview=False,
                interactive=False,
                buttons=[],
                elem_id='samples',
            )

    def _lay_out_controls(self) -> None:
        rows = list(self.default.rows)
        self.rows = gr.CheckboxGroup(rows, value=rows, label='Rows', elem_id='rows')
        with gr.Row():
            self.mode = gr.Dropdown(
                list(self.limits.modes), value=self.default.mode, label='Dense mode', min_width=120
            )
            blocks = [('last', LAST_BLOCK), *((f'{i}', i) for i in range(self.num_blocks))]
            self.block = gr.Dropdown(
                blocks, value=LAST_BLOCK, label='Map after block', min_width=120
            )
            self.own_scale = gr.Checkbox(
                False, label='own colours', info='of each row, which then do not compare'
            )

    def _lay_out_tabs(self) -> None:
        with gr.Tab('Look', elem_id='tab-look'):
            self.look = gr.HTML('', js_on_load=SCRIPT, elem_id='look')
            with gr.Row():
                self.save_affinity = gr.Button(
                    'Download similarity', size='sm', scale=0, min_width=180
                )
                self.save_pca = gr.Button('Download PCA', size='sm', scale=0, min_width=180)
        with gr.Tab('Words', elem_id='tab-words'):
            self.words = gr.Dropdown(
                list(dict.fromkeys((*self.choices, *self.default.words))),
                value=list(self.default.words),
                multiselect=True,
                allow_custom_value=True,
                label='Words',
                info='Enter after each; synonyms in one, as in sofa;couch',
                elem_id='words',
            )
            with gr.Row():
                self.threshold = gr.Slider(
                    0, 0.99, value=0, step=0.01, label='Least probability', min_width=160
                )
                self.synonyms = gr.Radio(
                    [('their mean', 'mean'), ('the best of them', 'max')],
                    value='mean',
                    label='Synonyms',
                    min_width=160,
                )
            self.named = gr.HTML('', js_on_load=SCRIPT, elem_id='named')
            self.save_words = gr.Button('Download segmentation', size='sm', scale=0, min_width=180)
        with gr.Tab('Detect', elem_id='tab-detect'):
            lacking = self.bench.detectors.lacking()
            if lacking:
                gr.HTML(f'<p class="rc-hint">{escape(lacking)}</p>', elem_id='boxes')
                self.detect = None
                return
            self.targets = gr.Dropdown(
                list(self.choices),
                value=list(self.default.words),
                multiselect=True,
                allow_custom_value=True,
                label='Words',
            )
            self.least = gr.Slider(0, 1, value=0.3, step=0.01, label='Least score')
            self.detect = gr.Button('Detect in the first image', variant='primary')
            self.boxes = gr.HTML('', elem_id='boxes')

    def _wire(self, blocks: gr.Blocks) -> None:
        # gradio adds the events of a component at run time.
        controls: list[Any] = [self.rows, self.mode, self.block, self.own_scale]
        texts = [self.words, self.synonyms, self.threshold]
        state = [self.session, *controls, *texts]
        boards = [self.look, self.named, self.link]
        quick: dict[str, Any] = dict(WORKER, show_progress='minimal', trigger_mode='always_last')
        blocks.load(self.on_open, None, [*state, self.pictures, *boards], **WORKER)
        new_image = [self.session, self.pictures, *boards]
        if self.samples:
            self.gallery.select(self.on_sample, [self.slot, *state], new_image, **WORKER)
        self.upload.upload(self.on_upload, [self.upload, self.slot, *state], new_image, **WORKER)
        self.remove.click(self.on_remove, state, new_image, **WORKER)
        for board in (self.pictures, self.look, self.named):
            board.pick(self.on_pick, state, [self.session, self.look, self.link], **quick)
        for control in controls:
            control.input(self.on_controls, state, boards, **WORKER)
        # A dropdown tells only its changes where a word of the visitor's own is added.
        for event in (self.words.change, self.synonyms.input, self.threshold.release):
            event(self.on_words, state, [self.named, self.link], **WORKER)
        for button, kind in (
            (self.save_affinity, 'affinity'),
            (self.save_pca, 'pca'),
            (self.save_words, 'segmentation'),
        ):
            made = button.click(self.saver(kind), state, self.file, **WORKER)
            made.then(None, self.file, None, js=SAVE)
        if self.detect is not None:
            self.detect.click(
                self.on_detect, [self.session, self.targets, self.least], self.boxes, **WORKER
            )
        self.link.change(None, self.link, None, js=ADDRESS)

    # What happens. Handlers take the session and the values of the controls.

    def on_open(self, request: gr.Request) -> list[Any]:
        """Fill the page as its address says."""
        query: dict[str, list[str]] = {}
        for name, value in request.query_params.multi_items():
            query.setdefault(name, []).append(value)
        view, wrong = from_query(query, self.default, self.limits)
        for sentence in wrong:
            warn(sentence)
        places = [one for one in (view.image, view.second) if one is not None]
        images = tuple(self.samples[place] for place in places) if self.samples else ()
        session = Session(images, view.point, view.source)
        block = LAST_BLOCK if view.block is None else view.block
        controls = [list(view.rows), view.mode, block, view.own_scale]
        texts = [list(view.words), view.synonyms, view.threshold]
        boards = self._boards(session, controls + texts)
        return [session, *controls, *texts, self._pictures(session), *boards]

    def on_sample(
        self,
        event: gr.SelectData,
        slot: str,
        session: Session,
        *values: Any,
    ) -> list[Any]:
        """Take an image of the gallery."""
        return self._put(self.samples[event.index], slot, session, values)

    def on_upload(
        self,
        path: str,
        slot: str,
        session: Session,
        *values: Any,
    ) -> list[Any]:
        """Take a file, which is gone from the disk when it has been read."""
        file = Path(path)
        try:
            image = read_bounded(file, self.patch_size)
        except ValueError as error:
            raise sentence(error) from error
        finally:
            file.unlink(missing_ok=True)
        shown = show(image, file.name, self.image_size, self.patch_size)
        return self._put(shown, slot, session, values)

    def on_remove(
        self,
        session: Session,
        *values: Any,
    ) -> list[Any]:
        """Drop the second image."""
        session = session.without_second()
        return [session, self._pictures(session), *self._boards(session, values)]

    def on_pick(self, event: gr.EventData, session: Session, *values: Any) -> list[Any]:
        """Take another token."""
        try:
            point = check_point(float(event.x), float(event.y))
            source = int(event.image)
            if not 0 <= source < len(session.images):
                raise ValueError(f'expected image 0 to {len(session.images) - 1}, got {source}')
        except (AttributeError, TypeError, ValueError) as error:
            raise sentence(error) from error
        session = replace(session, point=point, source=source)
        view = self._view(session, values)
        return [session, self._look(session, view), self._link(view)]

    def on_controls(
        self,
        session: Session,
        *values: Any,
    ) -> list[Any]:
        """Show other rows, or maps of another mode or block."""
        return self._boards(session, values)

    def on_words(
        self,
        session: Session,
        *values: Any,
    ) -> list[Any]:
        """Name by other words."""
        view = self._view(session, values)
        return [self._name(session, view), self._link(view)]

    def on_detect(
        self,
        session: Session,
        words: list[str],
        least: float,
    ) -> str:
        """Find boxes."""
        if not session.images:
            raise sentence(ValueError('expected an image, got none'))
        return self.bench.detect(session.images[0], words, least, told)

    def saver(self, kind: str) -> Any:
        """Handler that makes a figure."""

        def on_save(session: Session, *values: Any) -> str:
            view = self._view(session, values)
            try:
                png = self.bench.figure(kind, session.images, view)
            except ValueError as error:
                raise sentence(error) from error
            uri = f'data:image/png;base64,{base64.b64encode(png).decode()}'
            return f'refineclip_{FIGURE_NAMES[kind]}.png|{uri}'

        return on_save

    def _put(self, shown: Shown, slot: str, session: Session, values: Sequence[Any]) -> list[Any]:
        session = session.put(shown, slot == 'second image')
        return [session, self._pictures(session), *self._boards(session, values)]

    def _view(self, session: Session, values: Sequence[Any]) -> View:
        rows, mode, block, own_scale, words, synonyms, threshold = values
        samples = [one.sample for one in session.images]
        return View(
            rows=tuple(row for row in self.default.rows if row in rows),
            image=samples[0] if samples else None,
            second=samples[1] if len(samples) > 1 else None,
            point=session.point,
            source=session.source,
            mode=mode,
            block=None if block == LAST_BLOCK else block,
            own_scale=own_scale,
            words=tuple(str(word).strip() for word in words or ()),
            synonyms=synonyms,
            threshold=float(threshold),
        )

    def _boards(self, session: Session, values: Sequence[Any]) -> list[str]:
        view = self._view(session, values)
        look = self._look(session, view)
        return [look, self._name(session, view), self._link(view)]

    def _look(self, session: Session, view: View) -> str:
        if not session.images:
            return '<p class="rc-hint">Upload an image.</p>'
        return self.bench.look(session.images, view, told)

    def _name(self, session: Session, view: View) -> str:
        if not session.images:
            return '<p class="rc-hint">Upload an image.</p>'
        try:
            return self.bench.name(session.images, view, told)
        except ValueError as error:
            return f'<p class="rc-message">{escape(str(error))}</p>'

    def _pictures(self, session: Session) -> str:
        panels = []
        for index, one in enumerate(session.images):
            height, width = one.picture.shape[:2]
            grid = (height // self.patch_size, width // self.patch_size)
            panels.append(Panel(one.picture, index, grid, (height, width), one.title))
        return pictures_html(panels, Token(session.source, session.point))

    def _link(self, view: View) -> str:
        return to_query(view, self.default)


def told(share: float, text: str) -> None:
    """Show how far the event that is being answered has come."""
    gr.Progress()(share, desc=text)


def sentence(error: Exception) -> gr.Error:
    """An error that the visitor reads; the page stays as it is."""
    return gr.Error(escape(str(error)), duration=15, title='Not possible', print_exception=False)


def warn(text: str) -> None:
    """A warning that the visitor reads."""
    gr.Warning(escape(text), duration=15)
