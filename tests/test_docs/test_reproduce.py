"""docs/reproduce.md: every command parses, every config and key that it names is there."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'reproduce.md').read_text(encoding='utf-8')
CONFIGS = {path.name: path for path in (ROOT / 'configs').rglob('*.py')}


def commands() -> list[list[str]]:
    blocks = re.findall(r'```bash\n(.*?)```', PAGE, flags=re.DOTALL)
    lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    return [shlex.split(line) for line in lines if line]


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS[name], import_custom_modules=False)


def holds(config: Config, key: str) -> bool:
    node = config
    for part in key.split('.'):
        if not hasattr(node, 'keys') or part not in node:
            return False
        node = node[part]
    return True


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


@pytest.mark.parametrize('command', commands(), ids=' '.join)
def test_command(command):
    assert (
        command[:2] in (['mim', 'train'], ['mim', 'test'], ['python', '-m'])
        or (ROOT / command[1]).is_file()
    )
    if command[0] == 'mim':
        assert command[2] == 'refineclip-mm'
        config = load(command[3])
    elif command[1] == '-m':
        assert command[2:4] == ['refineclip', 'evaluate']
        module = importlib.import_module(f'refineclip.commands.evaluate.{command[4]}')
        parser = argparse.ArgumentParser(exit_on_error=False)
        module.add_arguments(parser)
        args = parser.parse_args(command[5:])
        if command[4] != 'segmentation':
            return
        config = Config.fromfile(ROOT / args.config, import_custom_modules=False)
    else:
        return
    if '--cfg-options' in command:
        options = command[command.index('--cfg-options') + 1 :]
        assert all(holds(config, option.split('=')[0]) for option in options)


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
