from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from refineclip.encoders import build_clip
from refineclip.encoders.text.embedder import TextEmbedder, save_text_embeddings
from refineclip.evaluation.regions.class_texts import class_texts, prompt_name

CLASSES = ('person', 'wall-other-merged', 'door-stuff')
TOWER = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=32, layers=1, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=1),
)


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('wall-other-merged', 'wall'),
        ('water-other', 'water'),
        ('door-stuff', 'door'),
        ('wall-brick', 'wall brick'),
        ('traffic light', 'traffic light'),
        ('other', 'other'),
    ],
)
def test_coco_names_become_words(name: str, words: str) -> None:
    assert prompt_name(name) == words


def test_rows_of_a_file_without_names(tmp_path: Path) -> None:
    path = tmp_path / 'texts.npy'
    np.save(path, np.eye(3, 5))
    chosen = class_texts(CLASSES, ('door-stuff', 'person'), path)
    assert chosen.embeddings.argmax(dim=1).tolist() == [2, 0]
    assert chosen.source == {'file': str(path)}
    with pytest.raises(ValueError, match='one row per class of the data set, 2, got 3 rows'):
        class_texts(CLASSES[:2], CLASSES[:2], path)


def test_rows_of_a_file_with_names(tmp_path: Path) -> None:
    path = tmp_path / 'texts.safetensors'
    save_text_embeddings(path, torch.eye(3, 5), ['door', 'person', 'wall-other-merged'])
    assert class_texts(CLASSES, CLASSES, path).embeddings.argmax(dim=1).tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match=r"got 1 of them \(missing: \['zebra'\]\)"):
        class_texts(('person', 'zebra'), ('person', 'zebra'), path)
    with pytest.raises(ValueError, match='each of the 1 classes, got none of them'):
        class_texts(('zebra',), ('zebra',), path)


def test_text_tower() -> None:
    torch.manual_seed(0)
    found = class_texts(CLASSES, CLASSES[1:], model=TOWER, templates='photo')
    torch.manual_seed(0)
    expected = TextEmbedder(build_clip(TOWER).eval(), 'photo').embed(['wall', 'door'])
    torch.testing.assert_close(found.embeddings, expected)
    assert found.source['names'] == ['wall', 'door']


def test_raw_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = class_texts(CLASSES, CLASSES, model=TOWER, class_names='raw')
    torch.manual_seed(0)
    expected = TextEmbedder(build_clip(TOWER).eval(), 'vild').embed(list(CLASSES))
    torch.testing.assert_close(found.embeddings, expected)
    assert found.source['names'] == list(CLASSES)
    # A file of the same prompts in the order of the classes gives the same.
    np.save(tmp_path / 'texts.npy', 3 * found.embeddings.numpy())
    again = class_texts(CLASSES, CLASSES, tmp_path / 'texts.npy', class_names='raw')
    torch.testing.assert_close(again.embeddings, found.embeddings)
    path = tmp_path / 'texts.safetensors'
    save_text_embeddings(path, torch.eye(3, 5), ['person', 'wall', 'door'])
    assert class_texts(CLASSES, CLASSES, path).embeddings.argmax(dim=1).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"missing: \['wall-other-merged', .*--class-names words"):
        class_texts(CLASSES, CLASSES, path, class_names='raw')


def test_no_source_of_text() -> None:
    with pytest.raises(ValueError, match='got neither'):
        class_texts(CLASSES, CLASSES)
    with pytest.raises(ValueError, match=r'--text-embeddings .* which has no text tower'):
        class_texts(CLASSES, CLASSES, model='timm/vit_small_patch14_dinov2')
