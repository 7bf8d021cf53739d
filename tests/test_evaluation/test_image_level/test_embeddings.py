from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from refineclip.encoders import RefinerCLIP
from refineclip.evaluation.image_level import embeddings
from refineclip.evaluation.image_level.embeddings import (
    ImageTransform,
    embed_images,
    library_transform,
)

TOWER = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=32, layers=2, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=8, vocab_size=49408, width=16, heads=2, layers=1),
)
TRANSFORM = ImageTransform((32, 32), (0.5, 0.4, 0.3), (0.2, 0.2, 0.3))


@pytest.fixture
def photos(tmp_path):
    generator = np.random.default_rng(0)
    paths = []
    for index, size in enumerate([(48, 40, 3), (32, 64, 3), (70, 33, 3)]):
        paths.append(tmp_path / f'{index}.png')
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(paths[-1])
    return paths


class Counting(RefinerCLIP):
    calls = 0

    def image_embedding(self, images):
        self.calls += 1
        return super().image_embedding(images)


def test_rows_of_one_tower_share_its_features(photos):
    first, other = Counting(TOWER).eval(), Counting(TOWER).eval()
    twin = Counting(TOWER).eval()
    twin.visual = first.visual
    embedded = embed_images(dict(a=first, b=twin, c=other), photos, TRANSFORM, batch_size=2)
    assert embedded.features['a'] is embedded.features['b']
    assert (first.calls, twin.calls, other.calls) == (2, 0, 2)
    assert embedded.features['a'].shape == (3, 12)
    pixels = torch.stack([TRANSFORM.build()(Image.open(path)) for path in photos])
    with torch.no_grad():
        expected = F.normalize(other.image_embedding(pixels), dim=1)
    torch.testing.assert_close(embedded.features['c'], expected)


def test_transform_is_the_librarys():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8))
    theirs = open_clip.image_transform(
        32, is_train=False, mean=TRANSFORM.image_mean, std=TRANSFORM.image_std
    )
    assert torch.equal(TRANSFORM.build()(image), theirs(image))


def test_transform_of_a_name_and_of_a_folder_config():
    visual = RefinerCLIP(TOWER).visual
    assert library_transform(visual, 'ViT-B-16').resize_mode == 'shortest'
    assert library_transform(visual, 'ViT-B-16-SigLIP').resize_mode == 'squash'
    config = dict(
        model_cfg=TOWER, preprocess_cfg=dict(resize_mode='longest', interpolation='bilinear')
    )
    found = library_transform(visual, config)
    assert (found.resize_mode, found.interpolation) == ('longest', 'bilinear')
    assert found.image_size == (32, 32)
    asked = library_transform(visual, config, None, 40, 'squash', 'bicubic')
    assert (asked.image_size, asked.resize_mode, asked.interpolation) == (
        (40, 40),
        'squash',
        'bicubic',
    )


@pytest.mark.parametrize('num_workers', [0, 1])
def test_unreadable_files_are_skipped_named_and_counted(photos, tmp_path, monkeypatch, num_workers):
    texts = []
    monkeypatch.setattr(embeddings, 'print_log', lambda text, **kwargs: texts.append(text))
    (tmp_path / 'cut.png').write_bytes(photos[0].read_bytes()[:60])
    (tmp_path / 'empty.jpg').touch()
    paths = [tmp_path / 'cut.png', photos[0], tmp_path / 'empty.jpg', photos[1]]
    encoder = RefinerCLIP(TOWER).eval()
    embedded = embed_images(dict(a=encoder), paths, TRANSFORM, 1, num_workers)
    assert embedded.kept.tolist() == [1, 3]
    assert [path for path, _ in embedded.bad] == [str(paths[0]), str(paths[2])]
    assert '2 of 4 images' in texts[0]
    assert 'empty.jpg: zero-byte file' in texts[0]
    with pytest.raises(ValueError, match='2 of which none can'):
        embed_images(dict(a=encoder), [paths[0], paths[2]], TRANSFORM)


def test_nan_features_name_row_and_file(photos):
    encoder = RefinerCLIP(TOWER).eval()
    with torch.no_grad():
        encoder.visual.model.ln_post.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"infinity from 'spoilt' for .*0\.png"):
        embed_images(dict(spoilt=encoder), photos, TRANSFORM)


def test_wrong_settings():
    with pytest.raises(ValueError, match='resize_mode'):
        ImageTransform((32, 32), (0.5,) * 3, (0.5,) * 3, 'crop')
    with pytest.raises(ValueError, match='interpolation'):
        ImageTransform((32, 32), (0.5,) * 3, (0.5,) * 3, interpolation='nearest')
    with pytest.raises(ValueError, match='multiple of the patch 8'):
        library_transform(RefinerCLIP(TOWER).visual, TOWER, image_size=36)
