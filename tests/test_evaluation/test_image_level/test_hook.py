from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.hooks import RuntimeInfoHook
from mmengine.registry import HOOKS
from mmengine.runner import get_priority
from PIL import Image
from torch import nn

from refineclip.datasets.coco_captions import CocoCaptions
from refineclip.datasets.microworld import write_split
from refineclip.encoders import RefinerCLIP, build_clip
from refineclip.evaluation.image_level.embeddings import embed_images, library_transform
from refineclip.evaluation.image_level.hook import ImageLevelHook
from refineclip.evaluation.image_level.retrieval import embed_captions, retrieval_recall

TOWER = {'model': 'microworld-clip', 'text_pretrained': 'shipped'}


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn images with captions, and two class folders of them."""
    folder = write_split(tmp_path_factory.mktemp('world'), 'val', 8)
    for index, path in enumerate(sorted((folder / 'val').iterdir())):
        target = folder / 'classes' / ('fish', 'boat')[index % 2]
        target.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(target / path.name)
    return folder


@pytest.fixture
def runner() -> Any:
    model = nn.Module()
    model.student = RefinerCLIP('microworld-clip', 'shipped', frozen=False)
    return SimpleNamespace(model=model)


def captions_of(root: Path) -> dict[str, Path]:
    return {'captions': root / 'annotations/captions_val.json', 'image_root': root / 'val'}


def test_adds_what_the_functions_say(root: Path, runner: Any) -> None:
    hook = HOOKS.build(dict(type='ImageLevelHook', **TOWER, **captions_of(root)))
    hook.before_run(runner)
    metrics = {'spatial/auc': 0.5}
    runner.model.train()
    hook.after_val_epoch(runner, metrics)
    assert runner.model.student.training

    data, clip = CocoCaptions(*captions_of(root).values()), build_clip('microworld-clip', 'shipped')
    transform = library_transform(runner.model.student.visual, 'microworld-clip', 'shipped')
    features = embed_images({'x': runner.model.student.eval()}, data.paths, transform).features['x']
    expected = retrieval_recall(
        features, embed_captions(clip, data.captions), data.owner, data.captions
    )
    assert metrics.pop('spatial/auc') == 0.5
    assert metrics == {f'image/{k}': pytest.approx(v.value) for k, v in expected.items()}


def test_follows_the_student_and_takes_every_nth_file(root: Path, runner: Any) -> None:
    hook = ImageLevelHook(**TOWER, image_folder=root / 'classes', templates=['a {}'], limit=4)
    hook.before_run(runner)
    seen: list[int] = []
    embed = runner.model.student.image_embedding
    runner.model.student.image_embedding = lambda x: (seen.append(len(x)), embed(x))[1]
    first = hook.measure(runner)
    assert seen == [4]
    assert set(first) >= {'image/top1'}
    text = hook._texts['names']
    # A student that says "boat" of everything is right about every second image.
    runner.model.student.image_embedding = lambda x: text[1:].expand(len(x), -1)
    second: dict[str, float] = {}
    hook.after_test_epoch(runner, second)
    assert second['image/top1'] == pytest.approx(0.5)


def test_comes_before_the_hook_that_feeds_the_log() -> None:
    assert get_priority(ImageLevelHook.priority) < get_priority(RuntimeInfoHook.priority)


def test_errors(root: Path, runner: Any) -> None:
    with pytest.raises(ValueError, match='expected image_folder, or captions with image_root'):
        ImageLevelHook(**TOWER, captions='captions.json')
    with pytest.raises(FileNotFoundError):
        ImageLevelHook(**TOWER, image_folder=root / 'nowhere')
    hook = ImageLevelHook(**TOWER, **captions_of(root), encoder='tower')
    with pytest.raises(AttributeError, match="expected a model with an encoder 'tower'"):
        hook.before_run(runner)
