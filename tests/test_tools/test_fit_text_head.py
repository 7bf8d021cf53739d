from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refineclip.encoders.text.text_head import TextHead


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Six photos of one of two plain colours, each with one box."""
    images, annotations = [], []
    (tmp_path / 'train2017').mkdir()
    (tmp_path / 'annotations/panoptic_train2017').mkdir(parents=True)
    for index in range(6):
        color = (200, 30, 30) if index % 2 else (30, 30, 200)
        Image.new('RGB', (48, 40), color).save(tmp_path / f'train2017/{index}.png')
        images.append({'id': index, 'file_name': f'{index}.png', 'width': 48, 'height': 40})
        box = {'id': 1, 'category_id': index % 2, 'iscrowd': 0, 'bbox': [0, 0, 40, 40], 'area': 9}
        annotations.append({'image_id': index, 'file_name': f'{index}.png', 'segments_info': [box]})
    names = [
        {'id': i, 'name': name, 'supercategory': 'color', 'isthing': 1}
        for i, name in enumerate(('blue', 'red'))
    ]
    content = {'images': images, 'annotations': annotations, 'categories': names}
    (tmp_path / 'annotations/panoptic_train2017.json').write_text(json.dumps(content))
    np.save(tmp_path / 'text.npy', np.eye(2, 5, dtype=np.float32))
    return tmp_path


@pytest.fixture
def fit(repo_root: Path, coco: Path) -> Callable[..., None]:
    """Run the tool in this process: a new one would spend seconds on imports."""
    spec = importlib.util.spec_from_file_location('tool', repo_root / 'tools/fit_text_head.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    common = ['--model', 'timm/test_vit', '--data-root', str(coco), '--crop-size', '32']
    return lambda *more: tool.main([*common, '--text-embeddings', str(coco / 'text.npy'), *more])


def test_writes_both_heads(
    fit: Callable[..., None], coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [coco / 'out/cls.safetensors', coco / 'out/mean.safetensors']
    fit('--out', str(outs[0]), '--mean-token-out', str(outs[1]))
    assert capsys.readouterr().out.count('fitted on 6 crops, 1.000 of them classified right') == 2
    heads = [TextHead.load(out) for out in outs]
    assert heads[0].weight.shape == (5, 64)
    torch.testing.assert_close(heads[0].text_mean, torch.tensor([0.5, 0.5, 0, 0, 0]))
    assert not heads[0].feature_mean.equal(heads[1].feature_mean)


def test_text_of_another_vocabulary(fit: Callable[..., None], coco: Path) -> None:
    np.save(coco / 'text.npy', np.eye(3, dtype=np.float32))
    with pytest.raises(SystemExit, match=r'expected text embeddings of shape \(2, T\)'):
        fit('--out', str(coco / 'head.safetensors'))


def test_wrong_output_name(
    fit: Callable[..., None], coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fit('--out', str(coco / 'head.pt'))
    assert 'ends in .safetensors' in capsys.readouterr().err
