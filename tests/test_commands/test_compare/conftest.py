"""A suite of photos at toy size: pictures, a tower, and words of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
from safetensors.torch import save_file

from tests.test_evaluation.toy_panoptic import CATEGORIES, write_coco

TOWER = dict(img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2, num_classes=0)


@pytest.fixture(scope='session')
def toy_photos(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> tuple[Path, Path]:
    """Data folder and suite file; the suite has RLA, SC-RLA, and a row without training."""
    root = tmp_path_factory.mktemp('toy_photos')
    coco = root / 'data' / 'coco'
    for split, count in (('train2017', 16), ('val2017', 8)):
        write_coco(coco, count, split)
    (root / 'data' / 'weights').mkdir()
    tower = timm.create_model('vit_tiny_patch16_224', **TOWER)
    save_file(tower.state_dict(), root / 'data' / 'weights' / 'toy.safetensors')
    words = np.random.default_rng(0).normal(size=(len(CATEGORIES), 6)).astype(np.float32)
    np.save(root / 'data' / 'words.npy', words)
    for method in ('rla', 'sc-rla'):
        (root / f'{method}_toy.py').write_text(
            f'_base_ = [{str(repo_root / "configs/pilot/_base_/stage2-pilot.py")!r}]\n'
            'model = dict(\n'
            f'    method={method!r},\n'
            "    text_head='work_dirs/text_head.safetensors',\n"
            '    data_preprocessor=dict(image_size=32, crop_size=32),\n'
            '    student=dict(\n'
            f"        model='timm/vit_tiny_patch16_224', model_kwargs={TOWER!r}\n"
            '    ),\n'
            ')\n'
        )
    suite = root / 'suite.py'
    entries = [
        dict(name='frozen', text='as it is', source='-'),
        dict(name='RLA', text='aligned', source='-', config=str(root / 'rla_toy.py')),
        dict(name='SC-RLA', text='kept', source='-', config=str(root / 'sc-rla_toy.py')),
    ]
    suite.write_text(
        f'_base_ = [{str(repo_root / "configs/compare/photos.py")!r}]\n'
        'photos = dict(_delete_=True, train2017=16)\n'
        'passes = 16\n'
        "weights = 'weights/toy*'\n"
        "words = 'words.npy'\n"
        "refiner = 'RLA'\n"
        f'frozen = {str(root / "rla_toy.py")!r}\n'
        f'methods = {entries!r}\n'
    )
    return root / 'data', suite


@pytest.fixture
def own_photos(toy_photos: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy that a test may break."""
    data, suite = toy_photos
    shutil.copytree(data, tmp_path / 'data')
    return tmp_path / 'data', Path(shutil.copy(suite, tmp_path / 'own.py'))
