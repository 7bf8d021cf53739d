"""Hooks of mkdocs: pages lie in the site where they lie in the repository.

So ``README.md`` is the index without a copy, links between pages work here and there alike, and the
files that a page links to (a module, a config) come with it. The notebook becomes a page with its
pictures.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
TOP = ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')
FOLDERS = ('benchmarks', 'configs', 'projects', 'refineclip')
LINK = re.compile(r'\]\((?!\w+:)([^)#\s]+)')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put every page, its pictures and the files that it links to under the repository's paths."""
    docs = Path(config.docs_dir)
    for file in list(files):
        if file.src_dir == config.docs_dir:  # all but what the theme brings
            files.remove(file)
    readmes = [page for name in FOLDERS for page in sorted((ROOT / name).rglob('README.md'))]
    pages = [*(ROOT / name for name in TOP), *sorted(docs.glob('*.md')), *readmes]
    linked = {
        (page.parent / target).resolve()
        for page in pages
        for target in LINK.findall(page.read_text(encoding='utf-8'))
    }
    others = sorted(path for path in linked - set(pages) if path.is_file())
    for path in (*pages, *others):
        if path.suffix != '.ipynb':
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for notebook in sorted(docs.glob('*.ipynb')):
        for file in notebook_files(notebook, config):
            files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to a notebook to its page, those to folders to a README or, without one, off."""
    here = (ROOT / page.file.src_uri).parent

    def mend(link: re.Match[str]) -> str:
        text, target = link.groups()
        if target.endswith('.ipynb'):
            return f'[{text}]({target.removesuffix(".ipynb")}.md)'
        folder = here / target
        if not folder.is_dir():
            return link[0]
        if (folder / 'README.md').is_file():
            return f'[{text}]({target.rstrip("/")}/README.md)'
        return f'`{text}`'

    return re.sub(r'(?<!!)\[([^]]*)\]\((?!\w+:)([^)#\s]+)\)', mend, markdown)


def notebook_files(path: Path, config: MkDocsConfig) -> list[File]:
    """Turn a notebook into a page, and the pictures that its cells have shown."""
    name = path.relative_to(ROOT).as_posix()
    pictures: list[File] = []

    def show(output: dict[str, Any]) -> str:
        data = output.get('data', {})
        if 'image/png' not in data:
            text = ''.join(output.get('text', data.get('text/plain', ''))).rstrip()
            return f'```text\n{text}\n```' if text else ''  # a progress bar leaves nothing
        picture = f'{Path(name).stem}_{len(pictures)}.png'
        content = base64.b64decode(''.join(data['image/png']))
        where = (Path(name).parent / picture).as_posix()
        pictures.append(File.generated(config, where, content=content))
        return f'![What the cell shows]({picture})'

    parts = []
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        parts.append(source if cell['cell_type'] == 'markdown' else f'```python\n{source}\n```')
        parts += map(show, cell.get('outputs', []))
    page = File.generated(config, f'{name.removesuffix(".ipynb")}.md', content='\n\n'.join(parts))
    return [page, *pictures]
