"""Synonyms: texts of a class, score maps and their refinement by hand, and what a step moves."""

from __future__ import annotations

import copy
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS

import projects.synonyms.synonyms  # noqa: F401  (registers the model and its loss)
from projects.synonyms.synonyms import SynonymLoss, build_texts, refine_scores
from refineclip.datasets.ov_splits import get_split
from refineclip.distill.losses import shows_picture
from refineclip.encoders.text.text_head import TextHead
from tests.test_distill.toys import PREPROCESSOR, STUDENT, TOWER, raw_batch, region_batch

WIDTH = TOWER['embed_dim']
NAMES = [['dog', 'puppy', 'canine'], 'cat']
# Another patch, width and grid than the student's.
VISION = dict(
    type='RefinerCLIP',
    model={
        **TOWER,
        'vision_cfg': dict(image_size=16, layers=2, width=24, head_width=8, patch_size=4),
    },
    dense_mode='plain',
)


def embeddings(seed: int, classes: int = 5, width: int = WIDTH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(classes, width, generator=generator), dim=-1)


def build(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    config = dict(
        type='SynonymAlignment',
        student=STUDENT,
        rla=dict(type='CLIPSelfLoss'),
        synonym=dict(type='SynonymLoss', top_k=2),
        texts=dict(
            label=dict(text_embeddings=embeddings(0)), rich=dict(text_embeddings=embeddings(1))
        ),
        data_preprocessor=PREPROCESSOR,
    )
    return MODELS.build({**config, **kwargs}).train()


def test_the_shipped_clip_embeds_the_names_of_a_split():
    classes = get_split('microworld').base
    texts = build_texts(
        names=dict(split='microworld', part='base'),
        model='microworld-clip',
        pretrained='shipped',
        templates=['a {}'],
        rich_templates=['a {}', '{}'],
    )
    assert texts.label.shape == texts.rich.shape
    assert len(texts.label) == len(classes)
    torch.testing.assert_close(texts.label.norm(dim=1), torch.ones(len(classes)))
    torch.testing.assert_close(texts.rich.norm(dim=1), torch.ones(len(classes)))
    assert not torch.allclose(texts.label, texts.rich)


def test_a_label_is_the_first_name_and_the_rich_text_all_of_them():
    options = dict(model=TOWER, pretrained=None, templates=['a {}'])
    torch.manual_seed(0)
    texts = build_texts(names=NAMES, **options)
    torch.manual_seed(0)
    each = build_texts(names=['dog', 'puppy', 'canine', 'cat'], **options).label
    torch.testing.assert_close(texts.label, each[[0, 3]])
    expected = F.normalize(torch.stack([each[:3].mean(dim=0), each[3]]), dim=1)
    torch.testing.assert_close(texts.rich, expected)
    torch.manual_seed(0)
    joined = build_texts(names=NAMES, join='text', **options)
    torch.manual_seed(0)
    whole = build_texts(names=['dog, puppy, canine', 'cat'], **options).label
    torch.testing.assert_close(joined.rich, whole)


def test_loss_by_hand():
    student = torch.tensor([[[0.5, 0.0], [0.1, 0.2]]])
    target = torch.tensor([[[0.3, 0.0], [0.4, 0.8]]])
    loss = SynonymLoss(loss_weight=0.05)
    # Means over the classes: .1 and .45.
    assert loss(student, target).item() == pytest.approx(0.05 * 0.275)
    valid = torch.tensor([[True, False]])
    assert loss(student, target, valid).item() == pytest.approx(0.05 * 0.1)
    assert loss(student, target, valid, 2.0).item() == pytest.approx(0.05 * 0.05)


def test_gradient_is_the_students_alone():
    student = torch.randn(2, 3, 4, dtype=torch.double, requires_grad=True)
    target = torch.randn(2, 3, 4, requires_grad=True)
    loss = SynonymLoss(loss_weight=1.0)
    assert torch.autograd.gradcheck(
        lambda x: loss(x, target.detach()).double(), student, eps=1e-3, atol=1e-3, rtol=1e-2
    )
    loss(student, target).backward()
    assert target.grad is None


def test_refinement_by_hand():
    scores = torch.tensor([[[0.9], [0.1], [0.5]]])
    vision = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.0, 2.0]]])
    # The first token alone: cosines 1, .6 and 0, half and half with the scores.
    one = refine_scores(scores, vision, None, top_k=1, share=0.5)
    torch.testing.assert_close(one[0, :, 0], torch.tensor([0.95, 0.35, 0.25]))
    # With the third: the mean of both cosines, (1 + 0) / 2, (.6 + .8) / 2, (0 + 1) / 2.
    two = refine_scores(scores, vision, None, top_k=2, share=1.0)
    torch.testing.assert_close(two[0, :, 0], torch.tensor([0.5, 0.7, 0.5]))
    # Padding is never taken.
    valid = torch.tensor([[False, True, True]])
    only = refine_scores(scores, vision, valid, top_k=1, share=1.0)
    torch.testing.assert_close(only[0, :, 0], torch.tensor([0.0, 0.8, 1.0]))


@pytest.mark.parametrize('vision_model', [None, VISION])
def test_losses_are_scores_of_the_label_against_those_of_all_names(vision_model):
    model = build(vision_model=vision_model)
    batch = region_batch(model)
    losses = model(batch, mode='loss')
    assert {name for name in losses if name.startswith('loss')} == {'loss_rla', 'loss_synonym'}
    student, teacher = (
        F.normalize(encoder.dense(batch.images).flatten(2).transpose(1, 2), dim=-1)
        for encoder in (model.student, model.teacher)
    )
    valid = shows_picture(batch.pictures, (4, 4))
    target = teacher @ embeddings(1).T
    if vision_model is not None:
        tokens = model._target_map(batch).flatten(2).transpose(1, 2)
        assert tokens.shape[1] == 16  # equal grids, by the size that the vision model sees
        target = refine_scores(target, tokens, valid, 2, 0.5)
    expected = model.synonym(student @ embeddings(0).T, target, valid)
    torch.testing.assert_close(losses['loss_synonym'], expected)


def test_one_name_and_no_training_yet_is_no_loss():
    same = dict(text_embeddings=embeddings(0))
    model = build(texts=dict(label=same, rich=same))
    losses = model(region_batch(model), mode='loss')
    assert losses['loss_synonym'].item() == pytest.approx(0, abs=1e-6)


def test_a_step_moves_the_blocks_and_no_teacher():
    model = build(vision_model=VISION)
    before = copy.deepcopy(model.state_dict())
    assert not any('text' in name for name in before)  # names are config
    model.train_step(raw_batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0)))
    changed = {k for k, value in model.state_dict().items() if not torch.equal(value, before[k])}
    assert changed
    assert all(name.startswith('student.visual.model.transformer.resblocks.') for name in changed)


def test_scores_go_through_a_text_head(tmp_path: Path):
    head = TextHead.fit(torch.randn(30, WIDTH), torch.randn(30, 7))
    head.save(tmp_path / 'head.safetensors')
    texts = dict(
        label=dict(text_embeddings=embeddings(0, width=7)),
        rich=dict(text_embeddings=embeddings(1, width=7)),
    )
    model = build(text_head=str(tmp_path / 'head.safetensors'), texts=texts)
    maps = torch.randn(2, WIDTH, 3, 3)
    scores = model._scores(maps, model.label_text)
    expected = head.classify(maps.flatten(2).transpose(1, 2), embeddings(0, width=7))
    torch.testing.assert_close(scores, expected)
    without = build(texts=texts)
    with pytest.raises(ValueError, match=r'expected embeddings of 12 columns.*text_head'):
        without._scores(maps, without.label_text)


def test_a_late_start():
    model = build(synonym=dict(type='SynonymLoss', start=0.5))
    hub = MessageHub.get_instance(f'synonyms-{uuid.uuid4().hex}')
    hub.update_info('max_iters', 10)
    hub.update_info('iter', 5)
    assert model(region_batch(model), mode='loss')['loss_synonym'].item() == 0
    hub.update_info('iter', 6)
    assert model(region_batch(model), mode='loss')['loss_synonym'].item() > 0


def test_cached_maps_are_those_that_are_computed(tmp_path: Path):
    plain, cached = build(vision_model=VISION), build(vision_model=VISION, cache_dir=str(tmp_path))
    expected = plain(region_batch(plain), mode='loss')['loss_synonym']
    for _ in range(2):  # computed, and read
        found = cached(region_batch(cached), mode='loss')['loss_synonym']
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-5)


FILES = dict(text_embeddings=embeddings(0))


@pytest.mark.parametrize(
    ('texts', 'message'),
    [
        ({}, 'expected names=... and model=...'),
        (dict(label=FILES), 'expected names=... and model=...'),
        (dict(names=NAMES, label=FILES, rich=FILES), 'expected names=... and model=...'),
        (dict(names=NAMES), 'texts.model: expected a CLIP'),
        (dict(names=NAMES, model=TOWER, join='sum'), "texts.join: expected one of .*, got 'sum'"),
        (
            dict(names=dict(split='microworld', part='novel'), model=TOWER),
            "part out of .*, got {'split': 'microworld', 'part': 'novel'}",
        ),
        (
            dict(label=FILES, rich=dict(text_embeddings=embeddings(1, classes=4))),
            'of the same classes, got shapes',
        ),
        (dict(names=['dog', 'dog'], model=TOWER), 'each class name once'),
    ],
)
def test_wrong_texts(texts, message):
    with pytest.raises(ValueError, match=message):
        build_texts(**texts)


def test_wrong_input():
    with pytest.raises(ValueError, match='without a Refiner'):
        build(student={**STUDENT, 'refiner': dict(num_blocks=1)})
    with pytest.raises(ValueError, match='top_k: expected 1 or more, got 0'):
        SynonymLoss(top_k=0)
    with pytest.raises(ValueError, match=r'share: expected a value in \[0, 1\], got 2'):
        SynonymLoss(share=2)


def test_gathered_names_are_the_mean_of_what_a_class_is_called(tmp_path: Path):
    label, also = embeddings(0, classes=2), embeddings(1, classes=3)
    np.save(tmp_path / 'label.npy', label.numpy())
    np.save(tmp_path / 'also.npy', also.numpy())
    (tmp_path / 'label.txt').write_text('dog\ncat\n')
    (tmp_path / 'also.txt').write_text('puppy\nbus\ncanine\n')
    lines = tmp_path / 'synonyms.txt'
    lines.write_text('dog; puppy; canine\n')
    files = {
        n: dict(text_embeddings=tmp_path / f'{n}.npy', names=str(tmp_path / f'{n}.txt'))
        for n in ('label', 'also')
    }
    gathered = dict(files['label'], also=files['also'], synonyms=str(lines))
    texts = build_texts(gathered=gathered)
    torch.testing.assert_close(texts.label, label)
    expected = F.normalize(torch.stack([label[0] + also[0] + also[2], label[1]]), dim=1)
    torch.testing.assert_close(texts.rich, expected)
    lines.write_text('dog; hound\n')
    with pytest.raises(ValueError, match="got 'dog; hound'"):
        build_texts(gathered=gathered)
    with pytest.raises(ValueError, match='texts: expected names'):
        build_texts(gathered=gathered, names=['dog'])


def test_names_of_lvis_exist(repo_root: Path):
    folder = repo_root / 'refineclip/assets/vocabularies'
    lines = (repo_root / 'projects/synonyms/names/coco_in-words-of-lvis.txt').read_text()
    coco, lvis = (set((folder / f'{n}.txt').read_text().splitlines()) for n in ('coco', 'lvis'))
    for line in lines.splitlines()[1:]:
        title, *names = (part.strip() for part in line.split(';'))
        assert title in coco
        assert set(names) <= lvis


def test_published_numbers_are_in_every_config(repo_root: Path):
    paths = sorted((repo_root / 'projects/synonyms/configs').glob('*.py'))
    assert len(paths) == 3
    for path in paths:
        synonym = Config.fromfile(path).model.synonym
        assert (synonym.loss_weight, synonym.top_k, synonym.share) == (0.05, 7, 0.5)
