"""What a user runs on a GPU, on a GPU in name only: ``python -m tests.test_devices.walk core``.

The last line is JSON: the cases that ran, and the errors of those that failed. Losses and scores
are worked out on the CPU as well, and must agree.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, MODELS, DefaultScope
from mmengine.structures import instance_data
from torch import Tensor

import refineclip.datasets
import refineclip.distill
import refineclip.encoders  # noqa: F401
from tests.test_evaluation.toy_panoptic import write_coco

from .named_gpu import DEVICE, NamedExtension, NamedTensor, named_gpu

Case = Callable[[Path], None]
CASES: dict[str, dict[str, Case]] = {'core': {}, 'mm': {}}


def case(room: str, *names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function of a folder, or of a name and a folder for several names."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        title = function.__name__.replace('_', ' ')
        if not names:
            CASES[room][title] = function
        for name in names:
            CASES[room][f'{title} {name}'] = lambda root, n=name: function(n, root)
        return function

    return register


def moved(model: Any) -> Any:
    """A copy of the model on the device, with nothing of it left behind."""
    model = copy.deepcopy(model).to(DEVICE)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    left = [name for name, value in tensors if not isinstance(value, NamedTensor)]
    assert not left, f'on the CPU after .to(): {left}'
    return model


def on_both(model: Any) -> tuple[Any, Any]:
    """Copies of the model: on the CPU, and on the device."""
    return copy.deepcopy(model), moved(model)


def train(model: Any, batch: Any) -> None:
    """One step with clipping on either side, with equal losses."""
    losses = []
    for one in on_both(model.train()):
        torch.manual_seed(0)
        trained = [p for p in one.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=0.01)
        wrapped = OptimWrapper(optimizer, clip_grad=dict(max_norm=1.0))
        logged = one.train_step(copy.deepcopy(batch), wrapped)
        losses.append({name: float(value.detach()) for name, value in logged.items()})
    agree(losses[1], losses[0])


def validate(model: Any, batch: Any) -> None:
    """Equal dense maps on either side."""
    found = [one.eval().val_step(copy.deepcopy(batch))[0]['map'].cpu() for one in on_both(model)]
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


def agree(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Equal numbers under equal names."""
    assert found.keys() == expected.keys(), (found, expected)
    for name, value in expected.items():
        gap = abs(float(found[name]) - float(value))
        assert gap < 1e-4 * max(1.0, abs(float(value))), (name, found[name], value)


# Training: both stages, in all methods


@case('core', 'infonce', 'cosine', 'same-crop', 'image', 'cached')
def stage_1(way: str, root: Path) -> None:
    """The Refiner: its losses, its targets, and features from a cache."""
    from tests.test_distill.toys import PREPROCESSOR, STUDENT, raw_batch

    loss = dict(infonce={}, cosine=dict(kind='cosine'), **{'same-crop': dict(negatives=way)})
    options = dict(image=dict(target='image'), cached=dict(cache_dir=str(root)))
    model = MODELS.build(
        dict(
            type='RefinerTraining',
            encoder={**STUDENT, 'refiner': dict(num_blocks=2)},
            loss=dict(type='RefineLoss', **loss.get(way, {})),
            data_preprocessor=PREPROCESSOR,
            max_regions_per_image=1 if way == 'infonce' else None,
            **options.get(way, {}),
        )
    )
    train(model, raw_batch())
    validate(model, raw_batch())


@case('core', 'rla', 'sc-rla', 'r-sc-rla', 'r-sc-v', 'retention', 'region-text', 'cached', 'drawn')
def stage_2(way: str, root: Path) -> None:
    """The student: the four methods, and the options that add a tensor."""
    from tests.test_distill.toy_runs import stage2_model
    from tests.test_distill.toys import raw_batch

    options: dict[str, dict[str, Any]] = {
        'retention': dict(retention=dict(type='RetentionLoss')),
        'region-text': dict(rla=dict(type='RegionTextLoss', text_embeddings=torch.randn(7, 12))),
        'cached': dict(cache_dir=str(root)),
        'drawn': dict(scd_max_regions=1, scd=dict(type='SCDLoss', roi_size=2, max_correlations=8)),
    }
    method = 'sc-rla' if way in options else way
    model = MODELS.build({**stage2_model(method), **options.get(way, {})})
    batch = raw_batch()
    batch['labels'] = [torch.tensor([0, 3])] * 3
    train(model, batch)
    validate(model, batch)


@case('core')
def contrastive_pretraining(root: Path) -> None:
    """The microworld's CLIP."""
    from refineclip.distill.contrastive_pretraining import ContrastivePretraining

    batch = dict(inputs=torch.randn(2, 3, 64, 64), data_samples=['a fish', 'a boat on sand'])
    train(ContrastivePretraining('microworld-clip'), batch)


class Host(BaseModel):
    """A model that fine-tunes a backbone, without any library around it."""

    def __init__(self) -> None:
        from tests.test_distill.toys import STUDENT

        super().__init__()
        self.backbone = MODELS.build({**STUDENT, 'frozen': False})

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        return dict(loss=self.backbone(inputs)[-1].square().mean())


@case('core')
def scd_hook(root: Path) -> None:
    """The SCD term beside another loss; the teacher follows the backbone to its device."""
    inputs = torch.randn(2, 3, 32, 32)
    found = []
    torch.manual_seed(0)
    for host in on_both(Host()):
        hook = HOOKS.build(dict(type='SCDHook', scd=dict(type='SCDLoss', roi_size=2)))
        runner = SimpleNamespace(model=host)
        hook.before_run(runner)
        hook.before_train(runner)
        place = next(host.parameters()).device
        losses = host.train()(inputs.to(place), mode='loss')
        losses['loss_scd'].backward()
        found.append(losses)
    agree(*found)


@case('core', 'codebook', 'front-door', 'cluster')
def cause(stage: str, root: Path) -> None:
    """The project CAUSE: its three stages."""
    from projects.cause.cause import CauseClusterProbe, CauseCodebookTraining, CauseFrontDoor
    from tests.test_distill.toys import STUDENT

    head = dict(type='CauseMLPHead', embed_dims=6)
    model = {
        'codebook': lambda: CauseCodebookTraining(STUDENT, num_concepts=5),
        'front-door': lambda: CauseFrontDoor(
            STUDENT, head, num_concepts=5, projection_dims=8, bank_size=16, num_anchors=4
        ),
        'cluster': lambda: CauseClusterProbe(STUDENT, head, num_concepts=5, num_clusters=3),
    }[stage]()
    batch = dict(inputs=torch.randn(2, 3, 32, 32))
    train(model, batch)
    if stage == 'cluster':
        moved(model).eval().val_step(batch)


# Evaluation and pictures, through the commands


@case('core', 'regions', 'spatial', 'image', 'image captions')
def evaluate(what: str, root: Path) -> None:
    """Rows of ``evaluate``: the same numbers as on the CPU."""
    from refineclip.commands import evaluate as command

    clip = write_clip(root)
    argv = [what.split()[0], '--model', clip, '--models', f'frozen={clip}', 'random=random']
    if what.startswith('image'):
        argv += write_photos(root, captions=what.endswith('captions'))
    else:
        argv += ['--data', str(write_coco(root / 'coco', 2)), '--image-size', '64']
    argv += {'regions': ['--templates', 'photo'], 'spatial': ['--measures', 'auc', 'knn']}.get(
        what, []
    )
    scores = []
    for device in ('cpu', DEVICE):
        out = root / f'{len(scores)}.json'
        assert command.main([*argv, '--device', device, '--json', str(out)]) == 0
        scores.append(json.loads(out.read_text())['scores'])
    for row, expected in scores[0].items():
        agree(flat(scores[1][row]), flat(expected))


@case('core')
def validation_metrics(root: Path) -> None:
    """What validation of the two stages measures."""
    from mmengine.dataset import pseudo_collate

    from refineclip.evaluation import PanopticEvaluationDataset, SpatialAwarenessMetric
    from refineclip.evaluation.panoptic_metrics import RegionAccuracyMetric
    from tests.test_distill.toy_runs import stage2_model

    dataset = PanopticEvaluationDataset(write_coco(root / 'coco', 2))
    torch.save(torch.randn(4, 12), root / 'texts.pt')
    batch = pseudo_collate([dataset[index] for index in range(len(dataset))])
    found: list[dict[str, float]] = []
    for model in on_both(MODELS.build(stage2_model('rla'))):
        samples = model.eval().val_step(batch)
        scores: dict[str, float] = {}
        for metric in (
            RegionAccuracyMetric(str(root / 'texts.pt')),
            SpatialAwarenessMetric(['auc', 'knn']),
        ):
            metric.dataset_meta = dataset.metainfo
            metric.process(batch, samples)
            scores |= metric.evaluate(len(dataset))
        found.append(scores)
    agree(*found)


@case('core')
def hooks_of_validation(root: Path) -> None:
    """Feature strips and the image-level guard see the model where it is."""
    from refineclip.evaluation.image_level.hook import ImageLevelHook
    from refineclip.visualization import FeatureStripHook
    from tests.test_distill.toy_runs import stage2_model

    data = write_photos(root)[0].partition('=')[2]
    model = moved(MODELS.build(stage2_model('rla')))
    runner = SimpleNamespace(model=model, iter=0, work_dir=str(root))
    strip = FeatureStripHook(data, num_images=1)
    strip.before_train(runner)
    guard = ImageLevelHook(write_clip(root), None, image_folder=data)
    guard.before_run(runner)
    assert guard.measure(runner)


@case('core', 'pca', 'affinity', 'tsne', 'curve')
def draw(kind: str, root: Path) -> None:
    """Figures of ``draw``."""
    from refineclip.commands import draw as command

    clip, data = write_clip(root), write_coco(root / 'coco', 2)
    options = {
        'tsne': ['--data', str(data)],
        'curve': ['--data', str(data), '--counts', '1', '--draws', '1', '--measures', 'auc'],
    }
    images = ['--images', str(data / 'val2017'), '--num-images', '1']
    argv = [kind, '--model', clip, '--models', f'frozen={clip}', *options.get(kind, images)]
    assert command.main([*argv, '--device', DEVICE, '--out', str(root / f'{kind}.png')]) == 0


@case('core')
def text_embeddings(root: Path) -> None:
    """Embeddings by a tower on the device, and banks that are moved after they were filled."""
    from refineclip.encoders import build_clip
    from refineclip.encoders.text import embedder
    from refineclip.encoders.text.embedder import TextEmbedder
    from refineclip.encoders.text.text_bank import TextBank

    clip = build_clip('microworld-clip', 'shipped').eval()
    found = [TextEmbedder(one, 'photo').embed(['fish', 'boat; tree']) for one in on_both(clip)]
    torch.testing.assert_close(*found)
    bank = moved(TextBank(['a', 'b'], text_embeddings=torch.randn(2, 4)))
    bank.set_vocabulary(['c', 'd'])
    assert isinstance(bank.embeddings, NamedTensor)
    bank = moved(TextBank(['fish'], 'microworld-clip', 'shipped', 'photo'))
    with mock.patch.object(embedder, 'encode_prompts', wraps=embedder.encode_prompts) as tower:
        bank.set_vocabulary(['boat'])
    assert isinstance(tower.call_args.args[1], NamedTensor)  # the tower ran on the device


# Segmentation and detection


@case('mm')
def cat_seg(root: Path) -> None:
    """CAT-Seg: training and windows; its cached text follows the model."""
    from tests.test_segmentation.test_cat_seg import toys

    model, batch = toys.cat_seg(), toys.batch()
    train(model, batch)
    found = []
    for one in on_both(model.eval()):
        data = one.data_preprocessor(copy.deepcopy(batch))
        with torch.no_grad():
            found.append(one(**data, mode='predict')[0].pred_sem_seg.data.cpu())
    torch.testing.assert_close(*found)


@case('mm')
def text_segmentor(root: Path) -> None:
    """``segment`` without a config, and another vocabulary on the device."""
    from refineclip.segmentation import build_text_segmentor, segment_image

    photo = next((root / write_photos(root)[0].partition('=')[2]).rglob('*.png'))
    found = []
    for device in ('cpu', DEVICE):
        model = build_text_segmentor(
            'microworld-clip', 'shipped', ['fish', 'boat'], templates='photo', device=device
        )
        model.set_vocabulary(['tree', 'house', 'fish'])
        found.append(torch.from_numpy(segment_image(model, photo)))
    torch.testing.assert_close(*found)


@case('mm')
def f_vit(root: Path) -> None:
    """F-ViT: training and detection, and another vocabulary on the device."""
    from tests.test_detection import toys

    model, batch = toys.build(), toys.batch()
    train(model, batch)
    found = []
    for one in on_both(model.eval()):
        one.set_vocabulary(toys.NAMES[::-1])
        [first, _] = one.val_step(copy.deepcopy(batch))
        found.append(first.pred_instances.scores.cpu())
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


@case('mm', 'detector', 'segmentor')
def stock_hosts(kind: str, root: Path) -> None:
    """RefinerCLIP in a stock model, with the SCD term."""
    from mmengine.dataset import pseudo_collate

    from tests.test_mm import toy_hosts

    detection = kind == 'detector'
    with DefaultScope.overwrite_default_scope('mmdet' if detection else 'mmseg'):
        model = MODELS.build(getattr(toy_hosts, kind)())
    toys = toy_hosts.DetectionToys() if detection else toy_hosts.SegmentationToys()
    train(model, pseudo_collate([toys[0], toys[1]]))


# What the cases stand on


def write_clip(root: Path) -> str:
    """A toy CLIP as open_clip saves it."""
    from refineclip.encoders import build_clip
    from tests.test_distill.toys import TOWER

    tower = copy.deepcopy(TOWER)
    tower['text_cfg']['context_length'] = 16
    folder = root / 'clip'
    folder.mkdir(exist_ok=True)
    (folder / 'open_clip_config.json').write_text(json.dumps({'model_cfg': tower}))
    torch.manual_seed(0)
    state = build_clip(tower).state_dict()
    state = {key.replace('visual.model.', 'visual.'): value for key, value in state.items()}
    torch.save(state, folder / 'open_clip_pytorch_model.bin')
    return f'local-dir:{folder}'


def write_photos(root: Path, captions: bool = False) -> list[str]:
    """Two classes of noise, as options of ``evaluate image``."""
    from tests.test_distill.toy_runs import write_images

    for name in ('dog', 'cat'):
        write_images(root / 'photos' / name, 2)
    if not captions:
        return [f'--data={root / "photos"}', '--templates=photo']
    images = [dict(id=index, file_name=f'dog/{index:02d}.png') for index in range(2)]
    rows = [dict(image_id=index, caption=f'dog {index}') for index in range(2)]
    (root / 'captions.json').write_text(json.dumps(dict(images=images, annotations=rows)))
    return [f'--captions={root / "captions.json"}', f'--image-root={root / "photos"}']


def flat(tree: Any, prefix: str = '') -> dict[str, float]:
    """The numbers of nested dicts, by their path."""
    if not isinstance(tree, Mapping):
        return {prefix: tree} if isinstance(tree, int | float) else {}
    return {k: v for key, one in tree.items() for k, v in flat(one, f'{prefix}/{key}').items()}


@contextlib.contextmanager
def operators(room: str) -> Iterator[None]:
    """Put mmcv's operators under the device's rules, and its masks among those mmengine knows."""
    with contextlib.ExitStack() as stack:
        known = instance_data.IndexType | NamedTensor
        stack.enter_context(mock.patch.object(instance_data, 'IndexType', known))
        for name in ('roi_align', 'nms') if room == 'mm' else ():
            module = importlib.import_module(f'mmcv.ops.{name}')
            stack.enter_context(
                mock.patch.object(module, 'ext_module', NamedExtension(module.ext_module))
            )
        yield


def main() -> None:
    """Run the cases of a room."""
    parser = argparse.ArgumentParser()
    parser.add_argument('room', choices=list(CASES))
    parser.add_argument('-k', default='', help='only cases whose name has this in it')
    args = parser.parse_args()
    chosen = {name: one for name, one in CASES[args.room].items() if args.k in name}
    errors = {}
    for name, one in chosen.items():
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as root, named_gpu(), operators(args.room):
            try:
                one(Path(root))
            except Exception:  # every case has its say
                errors[name] = traceback.format_exc()
        sys.stderr.write(f'{name}: {time.perf_counter() - start:.1f} s\n')
    sys.stdout.write('\n' + json.dumps(dict(ran=list(chosen), errors=errors)) + '\n')


if __name__ == '__main__':
    main()
