"""``evaluate segmentation``: rows and benchmarks in one table, kept, and what is left out."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip('mmseg.models')

from mmengine.config import Config
from mmengine.runner import Runner

from refineclip.commands import evaluate
from refineclip.encoders import RefinerCLIP
from tests.test_segmentation import toy_layouts
from tests.test_segmentation.toy_text import CLIP, stripes, write_labels

pytestmark = pytest.mark.mm
CONFIG = """
default_scope = 'mmseg'
custom_imports = dict(imports=['refineclip.encoders', 'refineclip.segmentation'])
benchmark_scales = dict(a150=(2048, 48))
benchmark_thresholds = dict(voc21=dict(logit_scale=65.0, area_thd=0.1))
model = dict(
    type='TextSegmentor',
    backbone=dict(type='RefinerCLIP', model='microworld-clip', pretrained='shipped'),
    text=dict(model='microworld-clip', pretrained='shipped', templates=['a {}']),
    test_cfg=dict(mode='slide', crop_size=32, stride=16),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 32), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ADE20KDataset', data_root='none', pipeline=pipeline),
)
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    # Each runner asks compilers for their versions, which takes seconds.
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    (tmp_path / 'toy_config.py').write_text(CONFIG)
    toy_layouts.ade150(toy_layouts.voc2012(tmp_path / 'data'))
    return [
        *('segmentation', str(tmp_path / 'toy_config.py'), '--data-root', str(tmp_path / 'data')),
        *('--work-dir', str(tmp_path / 'work'), '--json', str(tmp_path / 'out.json')),
    ]


def table(out: str) -> list[str]:
    """Lines from the table on; mmengine warns before it."""
    return out[out.index('mIoU, %') :].splitlines()


def read(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / 'out.json').read_text())


def test_before_and_after_on_three_benchmarks(base, tmp_path: Path, capsys, monkeypatch) -> None:
    refined = RefinerCLIP(**{**CLIP, 'model': CLIP['model']})
    state = {k: v + 0.1 * torch.randn_like(v) for k, v in refined.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'refined_iter_1.pth')
    argv = [*base, '--benchmarks', 'voc20,voc20b,ade150', '--compare', 'before']
    argv += ['--models', 'before=shipped', f'after={tmp_path / "refined_iter_1.pth"}']
    assert evaluate.main(argv) == 0
    out, err = capsys.readouterr()
    assert 'batches' not in err  # no bar where there is no terminal
    lines = table(out)
    assert lines[0].split() == ['mIoU,', '%', 'voc20*', 'voc20b*', 'a150*', 'mean']
    assert [line.split()[0] for line in lines[2:4]] == ['before', 'after']
    assert 'after - before' in out
    assert '* voc20: 3 images, published are 1449' in out
    free = 'mean over the classes that are in the labels or were predicted, as in mmseg'
    assert f'protocol training-free (voc20, a150): {free}' in lines
    caption = 'mean over the classes that are in the labels, as in detectron2'
    assert f'protocol cat-seg (voc20b): {caption}' in lines
    # Beside the column of the other average, what mmseg makes of it.
    assert lines.index(free) > lines.index(f'protocol cat-seg (voc20b): {caption}')
    content = read(tmp_path)
    results = content['results']
    voc20b = results['before']['voc20b']
    assert (voc20b['protocol'], voc20b['average']) == ('cat-seg', 'labels')
    assert voc20b['mIoU'] == voc20b['mIoU_labels'] > voc20b['mIoU_mmseg']
    voc20 = results['before']['voc20']
    assert f'{voc20["mIoU"]:.2f}' in lines[2]
    assert len(voc20['class_iou']) == 20
    assert len(results['before']['voc20b']['class_iou']) == 21
    assert len(results['before']['voc20b']['settings']['vocabulary']) == 59
    settings = voc20['settings']
    assert settings['weights'] != results['after']['voc20']['settings']['weights']
    assert settings['model']['test_cfg'] == dict(mode='slide', crop_size=32, stride=16)
    assert settings['pipeline'][2] == dict(type='LoadSegLabels', num_labels=20)
    assert settings['pipeline'][1]['scale'] == [2048, 32]
    assert results['before']['a150']['settings']['pipeline'][1]['scale'] == [2048, 48]
    assert content['environment']['versions']['torch']
    # The words of the first row's last benchmark must not look like other weights of the second.
    from refineclip.commands.evaluate.segmentation_rows import SegmentationRows

    monkeypatch.setattr(SegmentationRows, '_test', lambda *_: pytest.fail('measured again'))
    assert evaluate.main(argv) == 0
    assert read(tmp_path)['results'] == results


def test_protocol_chooses_labels_words_and_average(base, tmp_path: Path, capsys) -> None:
    argv = [*base, '--limit', '1', '--num-workers', '0', '--benchmarks']
    assert evaluate.main([*argv, 'voc20', '--protocol', 'cat-seg']) == 0
    found = read(tmp_path)['results']['model']['voc20']
    assert (found['protocol'], found['average']) == ('cat-seg', 'labels')
    assert found['mIoU'] == found['mIoU_labels']
    folder = found['settings']['dataset']['data_prefix']['seg_map_path']
    assert folder == 'SegmentationClassAug'
    assert evaluate.main([*argv, 'voc20']) == 0  # a TextSegmentor is compared with its like
    found = read(tmp_path)['results']['model']['voc20']
    assert (found['protocol'], found['mIoU']) == ('training-free', found['mIoU_mmseg'])
    assert evaluate.main([*argv, 'training-free,cat-seg']) == 2
    assert "one table of each at a time, got ['training-free/voc20'" in capsys.readouterr().err


def test_thresholds_of_a_benchmark(base, tmp_path: Path) -> None:
    """SCLIP's config of VOC21 has its own; the command line is above both."""
    argv = [*base, '--limit', '1', '--num-workers', '0', '--benchmarks', 'voc21,voc20']
    assert evaluate.main(argv) == 0
    found = read(tmp_path)['results']['model']
    keys = ('logit_scale', 'area_thd')
    models = {name: one['settings']['model'] for name, one in found.items()}
    assert [models['voc21'][key] for key in keys] == [65.0, 0.1]
    assert [models['voc20'][key] for key in keys] == [40.0, 0.0]
    assert evaluate.main([*argv, '--cfg-options', 'model.logit_scale=100']) == 0
    found = read(tmp_path)['results']['model']['voc21']['settings']['model']
    assert [found[key] for key in keys] == [100, 0.1]


def test_finished_benchmarks_are_read_back(base, tmp_path: Path, capsys, monkeypatch) -> None:
    argv = [*base[:2], 'shipped', *base[2:]]
    argv += ['--benchmarks', 'voc21', '--limit', '2', '--num-workers', '0']
    assert evaluate.main(argv) == 0
    first = read(tmp_path)['results']
    assert first['model']['voc21']['num_images'] == 2

    from refineclip.commands.evaluate.segmentation_rows import SegmentationRows

    calls = []
    test = SegmentationRows._test
    monkeypatch.setattr(
        SegmentationRows, '_test', lambda *args: (calls.append(args), test(*args))[1]
    )
    capsys.readouterr()
    assert evaluate.main(argv) == 0
    assert calls == []
    assert read(tmp_path)['results'] == first
    assert 'model, voc21: read from' in capsys.readouterr().err
    # Another model, and other labels, are measured anew.
    assert evaluate.main([*argv, '--cfg-options', 'model.prob_thd=0.5']) == 0
    assert len(calls) == 1
    folder = tmp_path / 'data' / 'VOCdevkit' / 'VOC2012' / 'SegmentationClass'
    write_labels(folder / f'{toy_layouts.STEMS[0]}.png', stripes(3, 4, 5))
    assert evaluate.main([*argv, '--cfg-options', 'model.prob_thd=0.5']) == 0
    assert len(calls) == 2


def test_a_stopped_benchmark_goes_on(base, tmp_path: Path, monkeypatch) -> None:
    from refineclip.segmentation import TextSegmentor

    seen, predict = [], TextSegmentor.predict
    stop_at = 3

    def watch(self: TextSegmentor, inputs: Any, samples: Any) -> Any:
        if len(seen) + 1 == stop_at:
            raise KeyboardInterrupt
        seen.append(Path(samples[0].img_path).stem)
        return predict(self, inputs, samples)

    argv = [*base, '--benchmarks', 'voc20']
    assert evaluate.main([*argv, '--work-dir', str(tmp_path / 'whole')]) == 0
    expected = read(tmp_path)['results']['model']['voc20']
    monkeypatch.setattr(TextSegmentor, 'predict', watch)
    with pytest.raises(KeyboardInterrupt):
        evaluate.main(argv)
    files = sorted(tmp_path.glob('work/model/images/*/*.pth'))
    assert [file.name for file in files] == ['0.pth', '1.pth']
    files[0].write_bytes(files[0].read_bytes()[:50])
    stop_at = -1
    assert evaluate.main(argv) == 0
    assert seen == [toy_layouts.STEMS[i] for i in (0, 1, 0, 2)]
    found = read(tmp_path)['results']['model']['voc20']
    assert found['class_iou'] == expected['class_iou']
    assert found['mIoU'] == expected['mIoU']


@pytest.mark.slow
def test_processes_give_the_number_of_one(base, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    argv = [*base, '--num-workers', '0', '--benchmarks', 'voc20,a150']
    assert evaluate.main(argv) == 0
    expected = read(tmp_path)['results']['model']
    again = [*argv, '--work-dir', str(tmp_path / 'two'), '--processes', '2']
    assert evaluate.main(again) == 0
    found = read(tmp_path)['results']['model']
    for name, one in expected.items():
        for key in ('mIoU', 'mAcc', 'aAcc', 'class_iou', 'num_images'):
            assert found[name][key] == one[key], (name, key)
    # An image that one of them cannot score leaves the benchmark out, and none waits.
    folder = tmp_path / 'data' / 'ade' / 'ADEChallengeData2016' / 'annotations' / 'validation'
    write_labels(folder / 'ADE_val_00000002.png', stripes(0, 151))
    assert evaluate.main(again) == 1
    content = read(tmp_path)
    assert list(content['results']['model']) == ['voc20']
    assert 'expected labels in [0, 149] or 255' in content['left_out']['a150']


def test_a_config_alone_gives_the_same_number(base, tmp_path: Path, repo_root: Path) -> None:
    """What `mim test` runs: the data set's own config, weights by load_from."""
    state = {k: v + 0.1 * torch.randn_like(v) for k, v in RefinerCLIP(**CLIP).state_dict().items()}
    refined = tmp_path / 'refined_iter_1.pth'
    torch.save({'state_dict': state}, refined)
    argv = [*base[:2], str(refined), *base[2:], '--benchmarks', 'voc20b']
    assert evaluate.main(argv) == 0
    folder = repo_root / 'configs' / '_base_'
    (tmp_path / 'single.py').write_text(
        f"_base_ = ['{folder}/datasets/seg-voc20b.py', '{folder}/text-seg_runtime.py']\n"
    )
    cfg = Config.fromfile(tmp_path / 'single.py')
    cfg.model = Config.fromstring(CONFIG, '.py').model
    root = tmp_path / 'data' / 'VOCdevkit' / 'VOC2012'
    cfg.merge_from_dict({'test_dataloader.dataset.data_root': str(root)})
    cfg.test_dataloader.dataset.pipeline[1].scale = (2048, 32)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.serialize_data = False
    cfg.update(work_dir=str(tmp_path / 'single'), load_from=str(refined), log_level='ERROR')
    metrics = Runner.from_cfg(cfg).test()
    kept = read(tmp_path)['results']['model']['voc20b']
    assert {name: float(value) for name, value in metrics.items()} == {
        name: kept[name] for name in ('aAcc', 'mIoU', 'mAcc', 'mIoU_mmseg', 'mIoU_labels')
    }
    assert kept['mAcc'] > 0


def test_what_is_missing_or_broken_is_left_out(base, tmp_path: Path, capsys) -> None:
    folder = tmp_path / 'data' / 'ade' / 'ADEChallengeData2016' / 'annotations' / 'validation'
    write_labels(folder / 'ADE_val_00000002.png', stripes(0, 151))
    argv = [*base, '--benchmarks', 'pc59,a150,voc20']
    assert evaluate.main(argv) == 1
    out = capsys.readouterr().out
    assert table(out)[2].split()[:3] == ['model', '-', '-']
    assert 'left out pc59: no ' in out
    assert 'tools/prepare/pascal_context_59.py' in out
    assert 'left out a150: ' in out
    assert 'expected labels in [0, 149] or 255, got [150]' in out
    content = read(tmp_path)
    assert list(content['results']['model']) == ['voc20']
    assert set(content['left_out']) == {'pc59', 'a150'}


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (['--benchmarks', 'voc22'], 'expected a benchmark out of'),
        (['x.pth', '--models', 'a=x.pth'], 'got both'),
        (['--compare', 'a'], 'rows in --models'),
        (['--models', 'a=b=c', 'a=d'], "'a' twice"),
        (['--limit', '0'], '--limit: expected'),
        (['none/refined.pth'], 'expected a weight file at none/refined.pth'),
        (['--models', 'a=colour'], 'mean colours'),
        (['--cfg-options', 'model.names=[a,(b]'], 'to close what is open'),
    ],
)
def test_wrong_input(base, capsys, extra: list[str], message: str) -> None:
    last = [] if '--benchmarks' in extra else ['--benchmarks', 'voc20']
    # CKPT stands beside CONFIG.
    assert evaluate.main([*base[:2], *extra, *base[2:], *last]) == 2
    assert message in capsys.readouterr().err


def test_model_of_fixed_classes_is_refused(base, tmp_path: Path, capsys) -> None:
    text = CONFIG[: CONFIG.index('model = ')] + CONFIG[CONFIG.index('pipeline = ') :]
    (tmp_path / 'toy_config.py').write_text(text)
    assert evaluate.main([*base, '--benchmarks', 'voc20']) == 2
    assert 'with model and test_dataloader' in capsys.readouterr().err
    text += "model = dict(type='BaseDataPreprocessor', _scope_='mmengine')\n"
    (tmp_path / 'toy_config.py').write_text(text)
    assert evaluate.main([*base, '--benchmarks', 'voc20']) == 2
    assert 'expected a model with set_vocabulary' in capsys.readouterr().err


def test_config_of_a_detector_is_refused(base, tmp_path: Path, capsys) -> None:
    (tmp_path / 'toy_config.py').write_text(f"{CONFIG}\ndefault_scope = 'mmdet'\n")
    assert evaluate.main([*base, '--benchmarks', 'voc20']) == 2
    assert 'expected the config of a segmentor (mmseg), got one of mmdet' in capsys.readouterr().err


def test_config_file_and_mmseg(base, tmp_path: Path, capsys) -> None:
    base[1] = str(tmp_path / 'none.py')
    assert evaluate.main(base) == 2
    assert 'expected a config file' in capsys.readouterr().err


def _test_rank(rank: int, file: str, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.distributed.init_process_group('gloo')
    cfg = Config.fromfile(file)
    metrics = Runner.from_cfg(cfg).test()
    torch.save(metrics, f'{cfg.work_dir}/rank_{rank}.pth')


@pytest.mark.slow
def test_two_processes_give_the_number_of_one(base, tmp_path: Path, repo_root: Path) -> None:
    folder = repo_root / 'configs' / '_base_'
    (tmp_path / 'single.py').write_text(
        f"_base_ = ['{folder}/datasets/seg-voc20b.py', '{folder}/text-seg_runtime.py']\n"
    )
    cfg = Config.fromfile(tmp_path / 'single.py')
    cfg.model = Config.fromstring(CONFIG, '.py').model
    root = tmp_path / 'data' / 'VOCdevkit' / 'VOC2012'
    cfg.test_dataloader.dataset.data_root = str(root)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.serialize_data = False
    cfg.update(work_dir=str(tmp_path / 'one'), log_level='ERROR')
    expected = Runner.from_cfg(cfg).test()
    cfg.update(work_dir=str(tmp_path / 'two'), launcher='pytorch')
    cfg.dump(tmp_path / 'two.py')
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_test_rank, args=(str(tmp_path / 'two.py'), port), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / 'two' / f'rank_{rank}.pth', weights_only=False)
        assert found == expected
