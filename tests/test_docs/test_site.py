"""`make docs`: the site is built without a warning, holds every page, and asks no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs.pages import PAGES, ROOT, name_of

# What a browser fetches by itself; links that a reader clicks may lead anywhere.
FETCHED = (
    re.compile(r'<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc="?((?:https?:)?//[^"\s>]+)'),
    re.compile(r'<link\b[^>]*\bhref="?((?:https?:)?//[^"\s>]+)'),
    re.compile(r'@import\s+(?:url\()?["\']?((?:https?:)?//[^"\')\s]+)'),
    re.compile(r'url\(["\']?((?:https?:)?//[^"\')\s]+)'),
)


def fetched(text: str) -> list[str]:
    return [host for pattern in FETCHED for host in pattern.findall(text)]


def test_hosts_are_seen() -> None:
    assert fetched('<script src="https://unpkg.com/a.js"></script>') == ['https://unpkg.com/a.js']
    assert fetched('<link rel="stylesheet" href="//fonts.a/b">') == ['//fonts.a/b']
    assert fetched("a{background:url('http://a.b/c.png')}") == ['http://a.b/c.png']
    assert fetched('<a href="https://arxiv.org">paper</a> <img src="a.png">') == []


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'WARNING' not in done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_there(site: Path) -> None:
    assert 'Take any CLIP-like ViT' in (site / 'index.html').read_text()
    pages = [*map(name_of, PAGES), 'docs/tutorial.ipynb']
    built = {page: re.sub(r'README\.md$', 'index.html', page).removesuffix('.md') for page in pages}
    lacking = [
        page
        for page, path in built.items()
        if not (site / Path(path).with_suffix('.html')).is_file()
    ]
    assert lacking == []
    reference = (site / 'docs' / 'reference.html').read_text()
    assert 'scd_loss' in reference
    assert 'L2-normalised' in reference  # of a docstring


@pytest.mark.slow
def test_links_to_folders_and_files_lead_somewhere(site: Path) -> None:
    wrong = []
    for page in site.rglob('*.html'):
        if page.name == '404.html':  # links from the root of a server
            continue
        for link in re.findall(r'<a\b[^>]*\bhref="([^"#:]+)(?:#[^"]*)?"', page.read_text()):
            if not (page.parent / link).is_file() and link not in ('.', './'):
                wrong.append(f'{page.relative_to(site)}: {link}')
    assert wrong == []


@pytest.mark.slow
def test_no_other_host_is_asked(site: Path) -> None:
    files = [path for path in site.rglob('*') if path.suffix in ('.html', '.css')]
    assert len(files) > 30
    asked = {path.name: hosts for path in files if (hosts := fetched(path.read_text()))}
    assert asked == {}
