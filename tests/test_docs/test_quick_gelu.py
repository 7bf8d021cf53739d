"""Commands of the pages that lay OpenAI's weights beside a refined file name the right network."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


def test_rows_of_both_kinds_are_of_one_network() -> None:
    """A refined file cannot tell its activation, so rows would differ and be refused."""
    commands = [
        command
        for page in PAGES
        for command in re.findall(
            r'^python -m refineclip (?:evaluate|draw) .*',
            page.read_text(encoding='utf-8').replace('\\\n', ''),
            re.M,
        )
        if '=openai' in command and 'refined=' in command
    ]
    assert len(commands) >= 6
    wrong = [
        one for one in commands if re.search(r'--model ViT-\S+', one) and 'quickgelu' not in one
    ]
    assert wrong == []
