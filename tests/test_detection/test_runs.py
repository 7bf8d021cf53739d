"""Whole runs: train, test, resume, detect, on drawn images and on real ones in the real layout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet.models')

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image

import refineclip.detection  # noqa: F401

from . import toys

pytestmark = pytest.mark.mm


class LossHook(Hook):
    """Keep the losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())


def train(cfg: Config) -> tuple[Runner, list[float]]:
    runner = Runner.from_cfg(cfg)
    hook = LossHook()
    runner.register_hook(hook)
    runner.train()
    return runner, hook.losses


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> tuple[Config, list[float], dict]:
    """A short training on drawn images, its losses, and what it validated to."""
    root = tmp_path_factory.mktemp('drawn')
    cfg = toys.run_config(root / 'data', root / 'work')
    cfg.train_cfg.update(max_iters=16, val_interval=16)
    cfg.default_hooks.checkpoint.interval = 8
    torch.manual_seed(0)
    runner, losses = train(cfg)
    return cfg, losses, dict(runner.message_hub.log_scalars)


def test_loss_falls_and_the_split_is_scored(trained):
    _, losses, scalars = trained
    assert len(losses) == 16
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    for name in ('base_ap50', 'novel_ap50', 'bbox_mAP_50'):
        assert f'val/coco/{name}' in scalars


def test_resume_goes_on_where_it_stopped(trained, tmp_path):
    cfg = cfg_of(trained, tmp_path)
    cfg.load_from = str(Path(trained[0].work_dir) / 'iter_8.pth')
    cfg.resume = True
    cfg.train_cfg.update(max_iters=10, val_interval=100)
    _, losses = train(cfg)
    assert len(losses) == 2
    assert losses[0] < 0.9 * trained[1][0]


def cfg_of(trained, tmp_path: Path) -> Config:
    cfg = toys.quiet(trained[0].copy(), tmp_path / 'work')
    cfg.model.roi_head.bbox_head.classifier.text.cache_dir = str(Path(trained[0].work_dir) / 'text')
    return cfg


def test_score_and_its_settings_are_written_side_by_side(trained, tmp_path):
    cfg = cfg_of(trained, tmp_path)
    cfg.load_from = str(Path(trained[0].work_dir) / 'iter_16.pth')
    cfg.model.roi_head.score_fusion.beta = 0.7
    metrics = Runner.from_cfg(cfg).test()
    (file,) = (tmp_path / 'work').glob('*/*.json')
    written = json.loads(file.read_text())
    assert written['coco/novel_ap50'] == pytest.approx(metrics['coco/novel_ap50'])
    assert written['alpha'] == 0.1
    assert written['beta'] == 0.7
    assert written['image_mean'] == [127.5] * 3
    assert written['det_temperature'] != 50  # the learned one


def test_detect_writes_boxes_with_names_and_pictures(trained, tmp_path, capsys):
    from refineclip.commands import detect

    cfg, _, _ = trained
    cfg.dump(tmp_path / 'config.py')
    images = sorted(Path(cfg.val_dataloader.dataset.data_root, 'val2017').glob('*.png'))[:2]
    (tmp_path / 'images').mkdir()
    for image in images:
        (tmp_path / 'images' / image.name).write_bytes(image.read_bytes())
    arguments = [
        *(str(tmp_path / 'config.py'), str(Path(cfg.work_dir) / 'iter_16.pth')),
        *(str(tmp_path / 'images'), '--texts', 'fish . blue thing;azure thing'),
        *('--out', str(tmp_path / 'out'), '--score-thr', '0.01', '--device', 'cpu'),
        *('--cfg-options', 'model.test_cfg.rcnn.max_per_img=7'),
    ]
    assert detect.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for image in images:
        (line,) = (line for line in lines if image.name in line)
        found = json.loads((tmp_path / 'out' / 'preds' / f'{image.stem}.json').read_text())
        assert 0 < len(found['names']) <= 7
        assert set(found['names']) <= {'fish', 'blue thing'}
        assert line.count(',') == sum(score >= 0.01 for score in found['scores']) - 1
        x1, y1, x2, y2 = torch.tensor(found['bboxes']).unbind(1)
        assert ((x1 >= 0) & (x1 < x2) & (x2 <= 128) & (y1 >= 0) & (y1 < y2) & (y2 <= 128)).all()
        assert (tmp_path / 'out' / 'vis' / image.name).is_file()


def test_inferencer_leaves_no_default_scope(trained):
    from refineclip.detection import OVDetInferencer

    cfg, _, _ = trained
    image = next(Path(cfg.val_dataloader.dataset.data_root, 'val2017').glob('*.png'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        detect = OVDetInferencer(cfg, texts='fish', device='cpu', show_progress=False)
        assert detect(image)['predictions']
        assert DefaultScope.get_current_instance().scope_name == 'mmseg'


def test_inferencer_changes_its_vocabulary(trained):
    from refineclip.detection import OVDetInferencer

    cfg, _, _ = trained
    image = next(Path(cfg.val_dataloader.dataset.data_root, 'val2017').glob('*.png'))
    weights = Path(cfg.work_dir) / 'iter_16.pth'
    detect = OVDetInferencer(cfg, weights, 'fish . boat', device='cpu', show_progress=False)
    first = detect(image)['predictions'][0]
    assert set(first['names']) <= {'fish', 'boat'}
    other = detect(image, texts=['boat', 'fish'])['predictions'][0]
    assert other['names'] == first['names']
    assert other['labels'] == [1 - label for label in first['labels']]
    assert other['scores'] == pytest.approx(first['scores'], abs=1e-5)
    # The background is there already; it is no class that boxes could have.
    assert detect(image, texts='fish . Background . boat')['predictions'][0] == first
    assert detect.model.vocabulary == ('fish', 'boat')
    detect.set_vocabulary(' . '.join(f'thing number {index}' for index in range(80)))
    assert len(detect.model.vocabulary) == 80
    with pytest.raises(ValueError, match="something to detect, got 'background' only"):
        detect.set_vocabulary('background')


def test_a_folder_with_bad_files_is_done_to_the_end(trained, tmp_path, capsys):
    """Equal stems, files of other formats, a photo on its side; and files that cannot be read."""
    from refineclip.commands import detect
    from refineclip.datasets import BadImageError
    from refineclip.detection import OVDetInferencer

    cfg, _, _ = trained
    cfg.dump(tmp_path / 'config.py')
    weights = str(Path(cfg.work_dir) / 'iter_16.pth')
    photos, out = tmp_path / 'photos', tmp_path / 'photos' / 'out'
    for camera in ('cam1', 'cam2'):
        (photos / camera).mkdir(parents=True)
        Image.new('RGB', (96, 64), (200, 40, 40)).save(photos / camera / 'a.jpg')
    Image.new('RGB', (64, 96), (40, 40, 200)).save(photos / 'cam1' / 'a.png')
    exif = Image.Exif()
    exif[274] = 6
    Image.new('RGB', (96, 64)).save(photos / 'turned.jpg', 'WEBP', exif=exif.tobytes())
    Image.new('L', (96, 64)).save(photos / 'gif.jpg', 'GIF')
    whole = (photos / 'cam1' / 'a.jpg').read_bytes()
    bad = {'cut.jpg': whole[: len(whole) // 2], 'empty.jpg': b'', 'page.jpg': b'<html>'}
    for name, content in bad.items():
        (photos / name).write_bytes(content)
    (photos / '._mac.jpg').write_bytes(b'\0\5\x16\7')
    Image.new('RGB', (6000, 1)).save(photos / 'thin.png')
    arguments = [str(tmp_path / 'config.py'), weights, str(photos), '--texts', 'fish', '--out']
    arguments += [str(out), '--device', 'cpu', '--batch-size', '3']
    for _ in range(2):  # the pictures of the first call are no input of the second
        assert detect.main(arguments) == 1
        said = capsys.readouterr()
        assert 'warning: 4 of 9 images were skipped' in said.err
        assert all(f'skipped {photos / name}: ' in said.err for name in (*bad, 'thin.png'))
    found = sorted(str(path.relative_to(out)) for path in out.rglob('*.*'))
    assert found == [
        *('preds/cam1/a.jpg.json', 'preds/cam1/a.png.json', 'preds/cam2/a.json'),
        *('preds/gif.json', 'preds/turned.json'),
        *('vis/cam1/a.jpg', 'vis/cam1/a.png', 'vis/cam2/a.jpg', 'vis/gif.jpg', 'vis/turned.jpg'),
    ]
    with Image.open(out / 'vis' / 'turned.jpg') as picture:
        assert picture.size == (64, 96)  # as it is shown
    inferencer = OVDetInferencer(cfg, weights, 'fish', device='cpu', show_progress=False)
    with pytest.raises(BadImageError, match=r'cut\.jpg'):
        inferencer(photos)
    (tmp_path / 'photo').write_bytes((photos / 'gif.jpg').read_bytes())
    inferencer(tmp_path / 'photo', out_dir=str(tmp_path / 'named'))
    with Image.open(tmp_path / 'named' / 'vis' / 'photo') as picture:
        assert (picture.format, picture.size) == ('PNG', (96, 64))
    result = inferencer([photos / 'cut.jpg', photos / 'gif.jpg'], on_bad_image='skip')
    assert result['img_paths'] == [str(photos / 'gif.jpg')]
    assert len(result['predictions']) == 1
    assert [path for path, _ in result['bad_images']] == [str(photos / 'cut.jpg')]
    with pytest.raises(ValueError, match='on_bad_image'):
        inferencer(photos, on_bad_image='ignore')


@pytest.mark.parametrize(
    'part', ['backbone', 'neck', 'rpn_head', 'roi_head.bbox_head.fc_reg', 'roi_head.bbox_head']
)
def test_detections_that_are_not_finite_are_an_error(trained, part, tmp_path):
    from refineclip.detection import OVDetInferencer

    cfg, _, _ = trained
    weights = str(Path(cfg.work_dir) / 'iter_16.pth')
    detect = OVDetInferencer(cfg, weights, 'fish', device='cpu', show_progress=False)
    *_, last = (p for p in detect.model.get_submodule(part).parameters() if p.is_floating_point())
    last.data.fill_(float('nan'))
    Image.new('RGB', (96, 64)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=r'got NaN or infinity for .*a\.png; check the weights'):
        detect(tmp_path / 'a.png')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (['no.jpg'], 'expected an image or a folder of images, got no.jpg'),
        (['empty'], 'below empty, got none'),
        (['empty', '--texts', 'cat . cat'], r"\['cat'\] more than once"),
        (['empty', '--vocabulary', 'no.txt'], 'no.txt'),
        (['empty', '--batch-size', '0'], '--batch-size: expected 1 or more, got 0'),
        (['empty', '--score-thr', 'nan'], '--score-thr: expected a score in'),
    ],
)
def test_detect_refuses_before_it_builds(change, message, tmp_path, monkeypatch, capsys):
    from refineclip.commands import detect

    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    if '--vocabulary' in change:
        change[0] = str(toys.ROOT / 'docs')  # a folder with images
    assert detect.main([str(toys.CONFIG), 'weights.pth', *change, '--out', 'out']) == 2
    assert re.search(message, capsys.readouterr().err)


def test_config_of_something_else_is_refused() -> None:
    from refineclip.detection import OVDetInferencer

    config = Config(dict(model=dict(type='EncoderDecoder')))
    with pytest.raises(ValueError, match='config of an F-ViT detector, got one of EncoderDecoder'):
        OVDetInferencer(config, device='cpu')


def test_real_photos_in_the_real_layout(shared_data, repo_root, tmp_path):
    """prepare, train and validate OV-COCO on a subset of COCO."""
    coco = shared_data / 'coco'
    command = [sys.executable, 'tools/prepare/ov_coco.py', str(coco), '--out-dir', str(tmp_path)]
    subprocess.run(command, cwd=repo_root, check=True, capture_output=True)
    cfg = toys.quiet(Config.fromfile(toys.CONFIG), tmp_path / 'work')
    for phase, file in (
        ('train', 'instances_train2017_seen_2_65_cat.json'),
        ('val', 'instances_val2017_all_2.json'),
    ):
        cfg[f'{phase}_dataloader'].dataset.update(
            data_root=str(coco), ann_file=str(tmp_path / file)
        )
    cfg.val_evaluator.ann_file = str(tmp_path / file)
    cfg.val_dataloader.dataset.indices = 6
    cfg.train_cfg.update(max_iters=8, val_interval=8)
    cfg.train_dataloader.batch_size = 2
    runner, losses = train(cfg)
    assert losses[-1] < losses[0]
    assert runner.model.vocabulary[:2] == ('person', 'bicycle')
    assert 'val/coco/novel_ap50' in runner.message_hub.log_scalars


@pytest.mark.slow
def test_eight_images_are_learned_by_heart(tmp_path):
    """Assignment, losses and decoding are right end to end: AP50 of the training images."""
    cfg = toys.run_config(tmp_path / 'data', tmp_path / 'work', size=128)
    names = list(cfg.model.roi_head.bbox_head.classifier.names)
    # Random text: the tiny tower knows no word for a third of the kinds.
    cfg.model.roi_head.bbox_head.classifier.update(base_names=names)
    cfg.model.roi_head.bbox_head.classifier.text = dict(text_embeddings=toys.embeddings(25))
    cfg.model.roi_head.score_fusion = dict(alpha=0.0, beta=0.0)
    metainfo = dict(classes=names, base_classes=names, novel_classes=names)
    ann_file = 'annotations/instances_train2017.json'
    for phase in ('train', 'val'):
        cfg[f'{phase}_dataloader'].dataset.update(
            ann_file=ann_file, metainfo=metainfo, data_prefix=dict(img='train2017/')
        )
    cfg.train_dataloader.dataset.pipeline = [
        step for step in cfg.train_dataloader.dataset.pipeline if step['type'] != 'RandomFlip'
    ]
    cfg.val_evaluator.ann_file = str(tmp_path / 'data' / ann_file)
    cfg.train_cfg.update(max_iters=200, val_interval=200)
    runner, _ = train(cfg)
    ap50 = runner.message_hub.get_scalar('val/coco/bbox_mAP_50').current()
    assert ap50 > 0.5, f'AP50 of the training images: {ap50:.3f}'


@pytest.mark.slow
def test_published_size(tmp_path):
    """B/16 at 640 px, two images, random weights: a training step and a prediction."""

    script = (
        'import resource, sys, torch\n'
        'from tests.test_detection.test_runs import real_size_step\n'
        'print(real_size_step())\n'
        'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)\n'
    )
    command = [sys.executable, '-c', script]
    result = subprocess.run(command, cwd=toys.ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    loss, gib = (float(line) for line in re.findall(r'^[\d.]+$', result.stdout, re.MULTILINE))
    sys.stdout.write(f'loss {loss:.3f}, peak of the process {gib:.2f} GiB\n')
    assert 0 < loss < 100
    assert gib < 16


def real_size_step() -> float:
    """Loss of one step of the OV-COCO B/16 config; also predicts."""
    from mmengine.registry import MODELS

    path = toys.ROOT / 'configs/detection/fvit/fvit_eva02-vit-b16_8xb8-amp-3e_ov-coco-640.py'
    cfg = Config.fromfile(path).model
    cfg.backbone.pretrained = None
    cfg.roi_head.bbox_head.classifier.text = dict(text_embeddings=toys.embeddings(66, 512))
    # One process on a CPU.
    for part in (cfg.neck[0], cfg.neck[1], cfg.roi_head.bbox_head):
        part.norm_cfg.type = 'BN'
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg)
        model.init_weights()
        data = model.data_preprocessor(toys.batch(640), training=True)
        loss = model.parse_losses(model(**data, mode='loss'))[0]
        loss.backward()
        model.eval()
        data = model.data_preprocessor(toys.batch(640), training=False)
        with torch.no_grad():
            found = model(**data, mode='predict')
    assert len(found) == 2
    return float(loss.detach())
