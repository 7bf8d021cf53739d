"""Links between the pages lead somewhere, headings included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('docs', 'configs', 'projects', 'benchmarks')
PAGES = [ROOT / 'README.md', *(p for name in FOLDERS for p in sorted((ROOT / name).rglob('*.md')))]
LINK = re.compile(r'\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)')


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', page.read_text(encoding='utf-8'), flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', one.lower()).strip().replace(' ', '-') for one in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text(encoding='utf-8')):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f'{path}#{anchor}'
