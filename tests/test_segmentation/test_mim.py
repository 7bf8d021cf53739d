"""``mim train``, ``mim test`` and a resume as users type them, on photographs if there are any."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from refineclip.datasets.microworld.coco_layout import write_split

pytestmark = pytest.mark.mm

BASE = 'configs/segmentation/cat-seg/cat-seg_microworld-clip_1xb8-300i_microworld-base.py'
# A user's own config: eight images in COCO's panoptic layout, small sizes.
CONFIG = """
_base_ = {base!r}
size = (64, 64)
model = dict(
    input_size=size,
    data_preprocessor=dict(size=size),
    decode_head=dict(aggregator=dict(embed_dims=16, window_size=4, decoder_channels=(16, 16))),
    test_cfg=dict(size=(96, 96), window=64, stride=32),
)
photos = dict(
    _delete_=True,
    type='CocoPanopticSegDataset',
    data_root={data!r},
    ann_file='annotations/panoptic_{split}.json',
    indices=8,
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadSegLabels'),
    dict(type='Resize', scale=size, keep_ratio=False),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=size, keep_ratio=False),
    dict(type='LoadSegLabels'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline, **photos))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **photos))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=4, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=2))
"""


@pytest.fixture
def mim(tmp_path):
    """Run mim beside this interpreter, in an empty folder."""
    if importlib.util.find_spec('mim') is None:
        pytest.skip('needs mim: pip install onedl-mim')
    try:
        importlib.metadata.distribution('refineclip-mm')
    except importlib.metadata.PackageNotFoundError:
        pytest.skip('needs an installed refineclip-mm, editable or not')

    def call(*arguments: str) -> None:
        done = subprocess.run(
            [Path(sys.executable).with_name('mim'), *arguments],
            cwd=tmp_path,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    return call


@pytest.fixture
def images(repo_root, tmp_path) -> tuple[Path, str]:
    """Folder and split: COCO's photos where they are at hand, drawn ones otherwise."""
    photos = repo_root.parent / 'shared' / 'data' / 'coco'
    if photos.is_dir():
        return photos, 'val2017'
    write_split(tmp_path / 'drawn', 'val', 8)
    return tmp_path / 'drawn', 'val'


def test_train_test_resume(repo_root, images, tmp_path, mim):
    data, split = images
    text = CONFIG.format(base=str(repo_root / BASE), data=str(data), split=split)
    (tmp_path / 'mine.py').write_text(text)
    mim('train', 'refineclip-mm', 'mine.py', '--work-dir', 'whole')
    checkpoint = tmp_path / 'whole' / 'iter_4.pth'

    mim('test', 'refineclip-mm', 'mine.py', '--checkpoint', str(checkpoint), '--work-dir', 'test')
    (validated,) = scalars(tmp_path / 'whole')
    (tested,) = scalars(tmp_path / 'test')
    assert tested == pytest.approx(validated)

    stopped = str(tmp_path / 'whole' / 'iter_2.pth')
    mim('train', 'refineclip-mm', 'mine.py', '--work-dir', 'resumed', '--resume', stopped)
    expected, resumed = (
        torch.load(path, weights_only=False)['state_dict']
        for path in (checkpoint, tmp_path / 'resumed' / 'iter_4.pth')
    )
    before = torch.load(stopped, weights_only=False)['state_dict']
    assert any(not torch.equal(before[name], value) for name, value in expected.items())
    for name, value in expected.items():
        assert torch.equal(resumed[name], value), name


def scalars(work_dir: Path) -> list[float]:
    """The values of mIoU in the logs of a run."""
    lines = [line for file in work_dir.rglob('*.json') for line in file.read_text().splitlines()]
    found = [json.loads(line) for line in lines if line.startswith('{') and '"mIoU"' in line]
    return list({one['mIoU'] for one in found})
