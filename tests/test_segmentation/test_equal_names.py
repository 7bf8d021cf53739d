"""A-847, whose 847 classes have nine first names in common: through training, test and commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg.models')

from mmengine.runner import Runner

from refineclip.commands import evaluate, segment
from refineclip.datasets.vocabularies import title_of
from refineclip.segmentation import get_benchmark

from ..test_commands.test_evaluate.test_segmentation import CONFIG
from . import toy_layouts
from .test_cat_seg.toys import cat_seg_cfg
from .toy_text import CLIP

pytestmark = pytest.mark.mm
BAGS = [10, 500, 700]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Each runner asks compilers for their versions, which takes seconds.
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    return toy_layouts.ade847(tmp_path / 'data')


def loader(root: Path, shuffle: bool) -> dict[str, Any]:
    benchmark = get_benchmark('a847')
    steps = [dict(type='LoadImageFromFile'), benchmark.loader_cfg(), dict(type='PackSegInputs')]
    return dict(
        batch_size=2 if shuffle else 1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        dataset=dict(benchmark.dataset_cfg(root), pipeline=steps, serialize_data=False),
    )


def test_cat_seg_trains_and_tests_on_847_classes(root: Path, tmp_path: Path) -> None:
    """Toy towers and the real loop: the hook sets the words, the loss and the metric take them."""
    sized = dict(type='SegDataPreProcessor', size=(40, 48))
    model = cat_seg_cfg(vocabulary=None, data_preprocessor=sized)
    model['decode_head']['ignore_index'] = 65535
    model['test_cfg'] = dict(mode='whole')
    runner = Runner(
        model,
        work_dir=str(tmp_path / 'work'),
        train_dataloader=loader(root, shuffle=True),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=1),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
        test_dataloader=loader(root, shuffle=False),
        test_evaluator=get_benchmark('a847').evaluator_cfg(),
        test_cfg=dict(type='TestLoop'),
        default_hooks=dict(logger=None, checkpoint=None),
        custom_hooks=[dict(type='VocabularyHook')],
        default_scope='mmseg',
        log_level='ERROR',
        experiment_name=f'a847_{tmp_path.name}',
    )
    before = runner.model.decode_head.aggregator.cost_embedding.weight.detach().clone()
    runner.train()
    assert not before.equal(runner.model.decode_head.aggregator.cost_embedding.weight)
    names = runner.model.vocabulary
    assert [title_of(names[index]) for index in BAGS] == ['bag'] * 3
    metrics = runner.test()
    own = runner.test_evaluator.metrics[0].class_iou
    assert len(own) == 847
    # Classes 10, 500 and 700 are in the labels, and are three.
    assert metrics['mIoU'] == pytest.approx(np.mean([own[index] for index in BAGS]), abs=0.01)


def test_evaluate_keeps_847_classes_apart(root: Path, tmp_path: Path) -> None:
    (tmp_path / 'toy_config.py').write_text(CONFIG)
    argv = ['segmentation', str(tmp_path / 'toy_config.py'), '--data-root', str(root)]
    argv += ['--benchmarks', 'a847', '--limit', '1', '--work-dir', str(tmp_path / 'work')]
    assert evaluate.main([*argv, '--json', str(tmp_path / 'out.json')]) == 0
    found = json.loads((tmp_path / 'out.json').read_text())['results']['model']['a847']
    assert len(found['class_iou']) == len(found['settings']['vocabulary']) == 847
    assert (found['protocol'], found['average']) == ('cat-seg', 'labels')


def test_segment_takes_the_prepared_file(root: Path, tmp_path: Path, capsys) -> None:
    base = root / 'ADE20K_2021_17_01'
    photo = base / 'images_detectron2' / 'validation' / 'ADE_val_00000001.jpg'
    argv = [str(photo), '--out', str(tmp_path / 'out'), '--vocabulary']
    model = ['--model', CLIP['model'], '--pretrained', CLIP['pretrained'], '--templates', 'photo']
    model += ['--short-side', '32', '--window', '0', '0']
    assert segment.main([*argv, str(base / 'classes_847.json'), *model]) == 0
    labels = np.asarray(Image.open(tmp_path / 'out' / 'labels' / 'ADE_val_00000001.png'))
    assert (labels.shape, labels.dtype) == ((40, 48), np.uint16)
    # The same names as somebody's own words are a slip, and the message says where.
    entries = json.loads((base / 'classes_847.json').read_text())
    own = tmp_path / 'words.txt'
    own.write_text('\n'.join(entry['name'] for entry in entries))
    assert segment.main([*argv, str(own), *model]) == 2
    assert str(BAGS) in capsys.readouterr().err
