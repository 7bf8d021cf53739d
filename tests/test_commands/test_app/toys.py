"""A page over the embedded world: the frozen CLIP and rows that are cheap beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('gradio', reason='needs gradio, of the extra [app]')

from refineclip.commands.app.command import build_page, make_parser
from refineclip.commands.app.page import Page

MODELS = (
    *('--model', 'microworld-clip', '--templates', 'a {}', '--image-size', '64'),
    *('--models', 'frozen=shipped', 'earlier=shipped@2', 'broken=no/such/file.pth'),
)


def rows_page(images: Path) -> Page:
    """A page of two rows and one that does not load."""
    return build_page(make_parser().parse_args([*MODELS, '--images', str(images)]))
