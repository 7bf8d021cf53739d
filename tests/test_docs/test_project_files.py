"""The contributor's door: forms ask for doctor's output, the changes name this version."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from refineclip import __version__
from tests.test_docs.pages import ROOT

FORMS = sorted(
    path for path in (ROOT / '.github' / 'ISSUE_TEMPLATE').glob('*.yml') if path.stem != 'config'
)


@pytest.mark.parametrize('form', FORMS, ids=lambda path: path.stem)
def test_forms_ask_for_what_doctor_says(form: Path) -> None:
    content = yaml.safe_load(form.read_text(encoding='utf-8'))
    assert {'name', 'description', 'body'} <= set(content)
    ids = [part['id'] for part in content['body']]
    assert len(ids) == len(set(ids))
    doctor = content['body'][ids.index('doctor')]
    assert 'python -m refineclip doctor' in doctor['attributes']['label']
    if form.stem != 'idea':
        assert doctor['validations'] == {'required': True}


def test_changes_have_this_version() -> None:
    assert len(FORMS) == 3
    assert f'\n## {__version__}' in (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
