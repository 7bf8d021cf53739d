from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from refineclip.evaluation.image_level.retrieval import embed_captions, retrieval_recall


def values(scores):
    return {key: score.value for key, score in scores.items()}


def test_numbers_by_hand_with_uneven_captions():
    images = torch.eye(3)
    captions = torch.tensor(
        [
            [1.0, 0.2, 0.0],  # of image 0: found
            [0.0, 1.0, 0.0],  # of image 1: found
            [0.0, 0.4, 0.9],  # of image 1: nearer to image 2
            [0.9, 0.0, 0.8],  # of image 2: nearer to image 0
        ]
    )
    scores = values(retrieval_recall(images, captions, np.array([0, 1, 1, 2]), ks=(1, 2, 3, 4)))
    # Image 2 sees caption 2 (.91) before its own (.66); images 0 and 1 see theirs first.
    assert scores['image_to_text_recall1'] == pytest.approx(2 / 3)
    assert scores['image_to_text_recall2'] == 1
    assert scores['text_to_image_recall1'] == pytest.approx(2 / 4)
    assert scores['text_to_image_recall2'] == 1
    assert 'text_to_image_recall3' not in scores  # three images: no answer could miss
    assert 'image_to_text_recall4' not in scores


def test_any_right_caption_counts_once():
    images = torch.eye(2)
    captions = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.9, 0.8]])
    scores = values(retrieval_recall(images, captions, np.array([0, 0, 0, 1]), ks=(1,)))
    assert scores['image_to_text_recall1'] == 1  # own captions do not push each other out
    assert scores['text_to_image_recall1'] == pytest.approx(3 / 4)


def test_parity_with_a_full_sort(monkeypatch):
    from refineclip.evaluation.image_level import retrieval

    generator = torch.Generator().manual_seed(0)
    owner = np.repeat(np.arange(30), np.arange(30) % 4 + 1)
    order = np.random.default_rng(0).permutation(len(owner))  # captions in any order
    owner = owner[order]
    images = torch.randn(30, 6, generator=generator)
    captions = images[torch.from_numpy(owner)] + torch.randn(len(owner), 6, generator=generator)
    similarity = F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T
    own = torch.from_numpy(owner)
    monkeypatch.setattr(retrieval, '_CHUNK', 7)
    scores = values(retrieval_recall(images, captions, owner))
    for k in (1, 5, 10):
        found = own[similarity.topk(k, dim=1).indices] == torch.arange(30)[:, None]
        expected = found.any(dim=1).float().mean().item()
        assert scores[f'image_to_text_recall{k}'] == pytest.approx(expected)
        found = similarity.T.topk(k, dim=1).indices == own[:, None]
        expected = found.any(dim=1).float().mean().item()
        assert scores[f'text_to_image_recall{k}'] == pytest.approx(expected)


def test_captions_of_the_same_words_are_right_for_each_other():
    images = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.0, 0.0, 1.0]])
    captions = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.1, 1.0]])
    owner, words = np.array([0, 1, 2]), ['a pim', 'a pim', 'a tuk']
    strict = values(retrieval_recall(images, captions, owner, ks=(1,)))
    assert strict == pytest.approx({'image_to_text_recall1': 1 / 3, 'text_to_image_recall1': 2 / 3})
    fair = values(retrieval_recall(images, captions, owner, words, ks=(1,)))
    assert fair == {'image_to_text_recall1': 1, 'text_to_image_recall1': 1}
    different = values(retrieval_recall(images, captions, owner, ['a', 'b', 'c'], ks=(1,)))
    assert different == strict


def test_collapsed_features_do_not_score():
    scores = values(retrieval_recall(torch.ones(3, 2), torch.ones(4, 2), np.array([0, 1, 2, 2])))
    assert scores['image_to_text_recall1'] == scores['text_to_image_recall1'] == 0


@pytest.mark.parametrize(
    ('images', 'captions', 'owner', 'message'),
    [
        (torch.ones(2, 3), torch.ones(2, 4), [0, 1], 'one width'),
        (torch.ones(2, 3), torch.ones(2, 3), [0], 'image of each caption'),
        (torch.ones(1, 3), torch.ones(2, 3), [0, 0], 'two or more images'),
        (torch.ones(2, 3), torch.ones(2, 3), [0, 2], r'images in \[0, 2\)'),
        (torch.ones(2, 3), torch.ones(2, 3), [0, 0], '1 images without'),
        (torch.full((2, 3), torch.nan), torch.ones(2, 3), [0, 1], 'finite image'),
        (torch.ones(2, 3), torch.full((2, 3), torch.inf), [0, 1], 'finite caption'),
    ],
)
def test_wrong_input(images, captions, owner, message):
    with pytest.raises(ValueError, match=message):
        retrieval_recall(images, captions, np.array(owner))


class Counts(nn.Module):
    """Text tower that says how often 'a' and ';' occur."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, tokens):
        assert not self.training
        return tokens.float() * self.scale


def test_captions_are_embedded_word_for_word():
    clip = SimpleNamespace(
        text=Counts().train(),
        tokenizer=lambda texts: torch.tensor([[t.count('A'), t.count(';')] for t in texts]),
    )
    embedded = embed_captions(clip, ['A A; B;', 'A.', ';'], batch_size=2)
    expected = F.normalize(torch.tensor([[2.0, 2.0], [1.0, 0.0], [0.0, 1.0]]), dim=1)
    torch.testing.assert_close(embedded, expected)
    assert clip.text.training
    with pytest.raises(ValueError, match='text tower'):
        embed_captions(SimpleNamespace(text=None, tokenizer=None), ['A'])
