"""docs/reproduce.md: its tables hold numbers, and every config and key that it names is there."""

from __future__ import annotations

import re

import pytest
from mmengine.config import Config

from tests.test_docs.pages import CONFIGS, ROOT, holds

PAGE = (ROOT / 'docs' / 'reproduce.md').read_text(encoding='utf-8')


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS[name], import_custom_modules=False)


def test_configs_of_the_tables_are_there():
    named = set(re.findall(r'`([\w-]+\.py)`', PAGE))
    assert named
    assert named <= CONFIGS.keys()


def test_cells_are_numbers():
    """What a row costs and reaches is a number, or a dash where none is known."""
    tables = re.findall(r'(?:^\|.*\n)+', PAGE, flags=re.MULTILINE)
    hours = []
    for head, _, *rows in (table.splitlines() for table in tables):
        if head.endswith('GPU-hours |'):
            hours += [row.split('|')[-2].strip() for row in rows]
    assert hours
    number = r'(-|\d+\.\d)'
    wrong = [cell for cell in hours if not re.match(rf'{number}(( \+|,( and)?) {number}|$)', cell)]
    assert wrong == []
    assert re.findall(r'@\w+@', PAGE) == []


def test_keys_of_the_text_are_those_of_the_configs():
    stage2 = load('r-sc-clipself_eva02-vit-b16_8xb2-amp-6e_coco-1024.py')
    assert holds(stage2, 'model.method')
    assert holds(stage2, 'model.student.pretrained')
    detector = load('fvit_eva02-vit-b16_8xb8-amp-3e_ov-coco-640.py')
    assert holds(detector, 'model.roi_head.score_fusion.vlm_temperature')
    assert holds(detector, 'model.backbone.init_cfg.checkpoint')
    # Other people's files have other names for the layers, which `pretrained` reads.
    segmentor = load('cat-seg_eva02-vit-b16_1xb4-80k_coco-stuff164k-384x384.py')
    assert holds(detector, 'model.backbone.pretrained')
    assert holds(segmentor, 'model.backbone.pretrained')
    assert re.findall('their files? [^|]*', PAGE) == [
        'their files as `model.backbone.pretrained` ',
        'their file as `model.backbone.pretrained` ',
    ]


@pytest.mark.parametrize('path', re.findall(r'work_dirs/([\w.-]+)/', PAGE))
def test_work_dirs_are_those_of_configs(path):
    assert f'{path}.py' in CONFIGS
