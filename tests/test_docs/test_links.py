"""Links between the pages lead somewhere, headings included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_docs.pages import PAGES, name_of

LINK = re.compile(r'\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)')


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', page.read_text(encoding='utf-8'), flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', one.lower()).strip().replace(' ', '-') for one in headings}


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_links(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text(encoding='utf-8')):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f'{path}#{anchor}'
