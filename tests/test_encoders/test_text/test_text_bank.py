from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from refineclip.encoders import build_clip
from refineclip.encoders.text.embedder import TextEmbedder, save_text_embeddings
from refineclip.encoders.text.text_bank import TextBank

TOWER = {'model': 'microworld-clip', 'pretrained': 'shipped', 'templates': ['a {}']}


def test_equals_the_embedder_and_stays_out_of_checkpoints() -> None:
    bank = TextBank(['fish', 'boat'], **TOWER)
    clip = build_clip('microworld-clip', 'shipped').eval()
    torch.testing.assert_close(
        bank.embeddings, TextEmbedder(clip, ['a {}']).embed(['fish', 'boat'])
    )
    assert bank.state_dict() == {}
    assert list(bank.parameters()) == []
    assert bank.names == ('fish', 'boat')


def test_another_vocabulary() -> None:
    bank = TextBank(['fish', 'boat'], **TOWER)
    fish = bank.embeddings[0]
    bank.set_vocabulary(['mushroom', 'flower', 'fish'])
    assert bank.embeddings.shape == (3, 128)
    torch.testing.assert_close(bank.embeddings[2], fish)


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = TextBank(['fish', 'boat'], **TOWER, cache_dir=tmp_path)
    monkeypatch.setattr(TextEmbedder, '_embed_all', lambda *_: pytest.fail('embedded twice'))
    again = TextBank(['fish', 'boat'], **TOWER, cache_dir=tmp_path)
    torch.testing.assert_close(first.embeddings, again.embeddings)


def test_files(tmp_path: Path) -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    save_text_embeddings(tmp_path / 'named.safetensors', rows, ['cat', 'dog'])
    np.save(tmp_path / 'bare.npy', rows.numpy())
    (tmp_path / 'names.txt').write_text('dog\ncat\n')
    named = TextBank(tmp_path / 'names.txt', text_embeddings=tmp_path / 'named.safetensors')
    torch.testing.assert_close(named.embeddings, F.normalize(rows.flip(0), dim=-1))
    bare = TextBank(['x', 'y'], text_embeddings=tmp_path / 'bare.npy')
    torch.testing.assert_close(bare.embeddings, F.normalize(rows, dim=-1))
    with pytest.raises(ValueError, match=r"lacks 1: \['cow'\]"):
        named.set_vocabulary(['cow', 'cat'])
    with pytest.raises(ValueError, match='one row per name'):
        bare.set_vocabulary(['x', 'y', 'z'])


def test_errors() -> None:
    with pytest.raises(ValueError, match='got neither'):
        TextBank(['cat'])
    with pytest.raises(ValueError, match=r'of width 64.*got 128'):
        TextBank(['fish'], **TOWER, embed_dim=64)
    with pytest.raises(ValueError, match='one row for each of 2 names, got 1'):
        TextBank(['cat', 'dog'], text_embeddings=torch.ones(1, 4))
    with pytest.raises(ValueError, match='non-empty class names'):
        TextBank([' '], **TOWER)
