from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from refineclip.encoders.text.text_head import TextHead


@pytest.fixture
def data() -> tuple[Tensor, Tensor, Tensor]:
    """200 features of 3 classes with very unequal channels, their labels, and class texts."""
    labels = torch.arange(200) % 3
    centers = torch.randn(3, 6)
    features = (centers[labels] + 0.3 * torch.randn(200, 6)) * torch.tensor([1, 10, 0.1, 1, 1, 1])
    return features + 5, labels, torch.nn.functional.normalize(torch.randn(3, 4), dim=1)


def test_fit_by_hand() -> None:
    # Standardised feature: -1, 1 over sqrt(2) * std; targets -2 and 4 around a text mean of 1.
    head = TextHead.fit(torch.tensor([[1.0], [3.0]]), torch.tensor([[-1.0], [3.0]]), ridge=1.0)
    assert head.feature_mean.item() == 2
    assert head.feature_std.item() == pytest.approx(2**0.5)
    assert head.text_mean.item() == 1
    # x = -+ 2 ** -0.5, y = -+ 2: w = sum(x y) / (sum(x x) + 1) = 2 * 2 ** 0.5 / 2.
    assert head.weight.item() == pytest.approx(2**0.5)
    assert head(torch.tensor([3.0])).item() == pytest.approx(1.0)


def test_zero_ridge_is_least_squares(data: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, text = data
    head = TextHead.fit(features, text[labels], ridge=0.0)
    x = head.standardize(features)
    expected = torch.linalg.lstsq(x, text[labels] - head.text_mean).solution.T
    torch.testing.assert_close(head.weight, expected, rtol=1e-3, atol=1e-4)


def test_standardize(data: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, text = data
    x = TextHead.fit(features, text[labels]).standardize(features)
    torch.testing.assert_close(x.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0), torch.ones(6))


def test_classify(data: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, text = data
    head = TextHead.fit(features, text[labels], text_mean=text.mean(0))
    logits = head.classify(features.reshape(2, 100, 6), text)
    assert logits.shape == (2, 100, 3)
    assert (logits.flatten(0, 1).argmax(1) == labels).float().mean() > 0.9
    assert logits.abs().max() <= 1 + 1e-6
    by_hand = torch.cosine_similarity(head(features[0]), text[1] - text.mean(0), dim=0)
    torch.testing.assert_close(logits[0, 0, 1], by_hand)


def test_file_round_trip(data: tuple[Tensor, Tensor, Tensor], tmp_path: Path) -> None:
    features, labels, text = data
    head = TextHead.fit(features, text[labels])
    head.save(tmp_path / 'head.safetensors')
    shapes = {k: tuple(v.shape) for k, v in load_file(tmp_path / 'head.safetensors').items()}
    assert shapes == {
        'feature_mean': (6,),
        'feature_std': (6,),
        'weight': (4, 6),
        'text_mean': (4,),
    }
    loaded = TextHead.load(tmp_path / 'head.safetensors')
    torch.testing.assert_close(loaded(features), head(features), rtol=0, atol=0)


def test_nothing_is_trained(data: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, text = data
    head = TextHead.fit(features, text[labels])
    assert list(head.parameters()) == []
    leaf = features[:3].clone().requires_grad_()
    head.standardize(leaf).sum().backward()
    torch.testing.assert_close(leaf.grad, (1 / head.feature_std).expand(3, 6))


def test_wrong_inputs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'got \(3, 2\) and \(4, 2\)'):
        TextHead.fit(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match='at least two'):
        TextHead.fit(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match='expected feature_mean'):
        TextHead(torch.zeros(3), torch.ones(3), torch.zeros(5, 2), torch.zeros(5))
    with pytest.raises(FileNotFoundError, match='fit_text_head'):
        TextHead.load(tmp_path / 'none.safetensors')
    save_file({'weight': torch.zeros(2, 2)}, tmp_path / 'other.safetensors')
    with pytest.raises(ValueError, match=r"got \['weight'\]"):
        TextHead.load(tmp_path / 'other.safetensors')
