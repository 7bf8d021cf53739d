from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from open_clip import build_zero_shot_classifier
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from refineclip.encoders import build_clip
from refineclip.encoders.text import embedder
from refineclip.encoders.text.embedder import (
    TextEmbedder,
    load_text_embeddings,
    read_names,
    save_text_embeddings,
)
from refineclip.encoders.text.templates import TEMPLATES, fill_template, get_templates
from refineclip.encoders.weights.weights_hash import weights_hash

TOY = {
    'embed_dim': 16,
    'vision_cfg': {'image_size': 32, 'layers': 1, 'width': 32, 'patch_size': 16, 'head_width': 16},
    'text_cfg': {
        'context_length': 32,
        'vocab_size': 49408,
        'width': 32,
        'heads': 2,
        'layers': 2,
    },
}


@pytest.fixture(scope='module')
def clip() -> nn.Module:
    torch.manual_seed(0)
    return build_clip(TOY)


class Letters(nn.Module):
    """Text tower whose embedding of a prompt is known by hand: counts of 'a', 'b' and 'c'."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls += len(tokens)
        return tokens.float() * self.scale


def letters() -> SimpleNamespace:
    def tokenizer(prompts: list[str]) -> Tensor:
        return torch.tensor([[prompt.count(letter) for letter in 'abc'] for prompt in prompts])

    return SimpleNamespace(text=Letters(), tokenizer=tokenizer)


def test_template_sets() -> None:
    assert {name: len(templates) for name, templates in TEMPLATES.items()} == {
        'photo': 1,
        'imagenet': 80,
        'vild': 63,
    }
    for templates in TEMPLATES.values():
        assert len(set(templates)) == len(templates)
    assert fill_template(TEMPLATES['photo'][0], 'cat') == 'a photo of a cat'
    expected = [template('cat') for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert [fill_template(template, 'cat') for template in TEMPLATES['imagenet']] == expected
    vild = {fill_template(template, 'Owl_bird/crow.') for template in TEMPLATES['vild']}
    for prompt in (
        'There is an owl bird or crow in the scene.',
        'There is the owl bird or crow in the scene.',
        'itap of my owl bird or crow.',
        'This is a photo of many owl bird or crow.',
        'This is a photo of a hard to see owl bird or crow.',
        'This is a black and white photo of an owl bird or crow.',
        'This is an embroidered owl bird or crow.',
        'This is the plushie owl bird or crow.',
        'This is a painting of the owl bird or crow.',
    ):
        assert prompt in vild


def test_article_follows_the_name() -> None:
    assert fill_template('{article} {}', 'apple') == 'an apple'
    assert fill_template('{article} {}', 'Orange') == 'an orange'
    assert fill_template('{article} {}', 'pear {x}') == 'a pear {x}'


def test_unknown_templates() -> None:
    with pytest.raises(ValueError, match=r"\['imagenet', 'photo', 'vild'\].*'clip'"):
        get_templates('clip')
    with pytest.raises(ValueError, match=r"\['a photo'\]"):
        get_templates(['a {}', 'a photo'])
    with pytest.raises(ValueError, match='contain'):
        get_templates([])
    for template in ('a {kind} of {}', 'a {} and {}', 'a {} {'):
        with pytest.raises(ValueError, match='expected no braces but'):
            get_templates(['a {}', template])
    assert get_templates(['a {{}} {}']) == ['a {{}} {}']


def test_one_template_needs_no_list() -> None:
    assert get_templates('a {}') == ['a {}']
    with pytest.raises(ValueError, match='no braces but'):
        get_templates('a {} {kind}')


def test_averages_by_hand() -> None:
    embedder = TextEmbedder(letters(), templates=['{}', '{}b'])
    got = embedder.embed(['a', 'a;cc'])
    # 'a': (1,0,0) and 'ab': (1,1,0)/sqrt 2; 'cc': (0,0,1) and 'ccb': (0,1,2)/sqrt 5.
    a = F.normalize(torch.tensor([1 + 0.5**0.5, 0.5**0.5, 0]), dim=0)
    c = F.normalize(torch.tensor([0, 0.2**0.5, 1 + 2 * 0.2**0.5]), dim=0)
    assert torch.allclose(got, torch.stack([a, F.normalize(a + c, dim=0)]), atol=1e-6)
    assert not got.requires_grad


def test_equals_the_zero_shot_classifier_of_open_clip(clip: nn.Module) -> None:
    names = ['cat', 'traffic light', 'sky']

    def encode_text(tokens: Tensor, normalize: bool) -> Tensor:
        assert normalize
        return F.normalize(clip.text(tokens), dim=-1)

    model = SimpleNamespace(encode_text=encode_text)
    templates = open_clip.OPENAI_IMAGENET_TEMPLATES
    expected = build_zero_shot_classifier(model, clip.tokenizer, names, templates).T
    got = TextEmbedder(clip, 'imagenet').embed(names)
    assert got.shape == (3, 16)
    assert torch.allclose(got, expected, atol=1e-5)


def test_batches_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ['abc', 'b;c', 'ca', 'bb', 'cab']
    whole = TextEmbedder(letters(), ['{}', 'a {}']).embed(names)
    monkeypatch.setattr(embedder, '_BATCH_PROMPTS', 4)
    assert torch.equal(TextEmbedder(letters(), ['{}', 'a {}']).embed(names), whole)


def test_training_mode_is_left_as_it_was(clip: nn.Module) -> None:
    for mode in (True, False):
        clip.text.train(mode)
        TextEmbedder(clip, 'photo').embed(['cat'])
        assert clip.text.training is mode


def test_cache_is_keyed_by_weights_names_and_templates(tmp_path: Path) -> None:
    clip = letters()

    def calls(names: list[str], templates: str | list[str] = 'photo') -> int:
        before = clip.text.calls
        fresh = TextEmbedder(clip, templates).embed(names)
        cost = clip.text.calls - before
        before = clip.text.calls
        cached = TextEmbedder(clip, templates, cache_dir=tmp_path).embed(names)
        assert torch.allclose(cached, fresh, atol=1e-6)
        assert clip.text.calls - before in (0, cost)
        return clip.text.calls - before

    assert calls(['a', 'b']) == 2
    assert calls(['a', 'b']) == 0
    assert calls(['b', 'a']) == 2
    assert calls(['a;b']) == 2
    assert calls(['a', 'b'], ['{} c']) == 2
    with torch.no_grad():
        clip.text.scale.mul_(2)
    assert calls(['a', 'b']) == 2
    assert len(list(tmp_path.iterdir())) == 5  # and no temporary files
    # A cache file is a file of embeddings like any other.
    assert {tuple(load_text_embeddings(file)[1]) for file in tmp_path.iterdir()} == {
        ('a', 'b'),
        ('b', 'a'),
        ('a;b',),
    }


def test_fingerprint_sees_every_parameter(clip: nn.Module) -> None:
    before = weights_hash(clip.text)
    assert before == weights_hash(clip.text)
    parameter = clip.text.ln_final.bias
    with torch.no_grad():
        parameter[3] += 1e-7
    assert weights_hash(clip.text) != before
    assert weights_hash(clip.text.to(torch.bfloat16)) != before
    clip.text.float()


def test_bad_requests(clip: nn.Module) -> None:
    vision_only = build_clip(TOY, text=False)
    with pytest.raises(ValueError, match='vision-only'):
        TextEmbedder(vision_only)
    for names in ([], ['cat', ''], [' ; ']):
        with pytest.raises(ValueError, match='non-empty'):
            TextEmbedder(clip, 'photo').embed(names)


def test_files_round_trip(tmp_path: Path) -> None:
    matrix = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    unit = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    np.save(tmp_path / 'a.npy', matrix.numpy().astype(np.float64))
    torch.save(matrix.half(), tmp_path / 'b.pt')
    torch.save({'embeddings': matrix, 'names': ['x', 'y']}, tmp_path / 'c.pth')
    save_text_embeddings(tmp_path / 'd.safetensors', matrix, ['x', 'y'])
    save_file({'anything': matrix}, tmp_path / 'e.safetensors')
    for file, names in [
        ('a.npy', []),
        ('b.pt', []),
        ('c.pth', ['x', 'y']),
        ('d.safetensors', ['x', 'y']),
        ('e.safetensors', []),
    ]:
        embeddings, got = load_text_embeddings(tmp_path / file)
        assert embeddings.dtype == torch.float32
        assert torch.allclose(embeddings, unit, atol=1e-3)
        assert got == names
        assert load_text_embeddings(tmp_path / file, ['p', 'q'])[1] == ['p', 'q']
    (tmp_path / 'a.txt').write_text('cat\ndog\n')
    (tmp_path / 'b.json').write_text(json.dumps(['sky', 'sea']))
    assert load_text_embeddings(tmp_path / 'a.npy')[1] == ['cat', 'dog']
    assert load_text_embeddings(tmp_path / 'b.pt')[1] == ['sky', 'sea']
    assert load_text_embeddings(tmp_path / 'a.npy', tmp_path / 'b.json')[1] == ['sky', 'sea']


def test_bad_files(tmp_path: Path) -> None:
    np.save(tmp_path / 'a.npy', np.eye(3, dtype=np.float32))
    with pytest.raises(FileNotFoundError, match='gone'):
        load_text_embeddings(tmp_path / 'gone.npy')
    with pytest.raises(ValueError, match='3 rows and 2 names'):
        load_text_embeddings(tmp_path / 'a.npy', ['x', 'y'])
    with pytest.raises(ValueError, match=r'\(classes, 512\), got shape \(3, 3\)'):
        load_text_embeddings(tmp_path / 'a.npy', dim=512)
    for name, content, message in [
        ('flat', np.ones(4), 'matrix'),
        ('cube', np.ones((2, 2, 2)), 'matrix'),
        ('empty', np.ones((0, 4)), 'matrix'),
        ('nan', np.array([[1.0, 2], [np.nan, 1]]), 'row 1'),
        ('zero', np.array([[0.0, 0], [1, 1]]), 'row 0'),
    ]:
        np.save(tmp_path / f'{name}.npy', content)
        with pytest.raises(ValueError, match=message):
            load_text_embeddings(tmp_path / f'{name}.npy')
    torch.save({'weights': torch.eye(3)}, tmp_path / 'b.pt')
    with pytest.raises(ValueError, match='got dict'):
        load_text_embeddings(tmp_path / 'b.pt')
    save_file({'p': torch.eye(3), 'q': torch.eye(3)}, tmp_path / 'c.safetensors')
    with pytest.raises(ValueError, match='one tensor'):
        load_text_embeddings(tmp_path / 'c.safetensors')
    (tmp_path / 'd.csv').write_text('1,2')
    with pytest.raises(ValueError, match=r"got '\.csv'"):
        load_text_embeddings(tmp_path / 'd.csv')
    (tmp_path / 'n.json').write_text('{"a": 1}')
    with pytest.raises(ValueError, match='JSON list of names, got dict'):
        read_names(tmp_path / 'n.json')
    with pytest.raises(FileNotFoundError, match='class names'):
        read_names(tmp_path / 'gone.txt')


@pytest.mark.parametrize(
    ('file', 'shape'),
    [
        ('openai-vit-b16_coco-panoptic-133.npy', (133, 512)),
        ('openai-vit-b16_coco-80.npy', (80, 512)),
        ('openai-vit-b16_lvis-1203.npy', (1203, 512)),
        ('eva-clip-b16_coco-panoptic-133.npy', (133, 512)),
        ('eva-clip-b16_ade20k-150.npy', (150, 512)),
    ],
)
def test_real_embeddings(shared_data: Path, file: str, shape: tuple[int, int]) -> None:
    embeddings, names = load_text_embeddings(shared_data / 'text_embeddings' / file, dim=512)
    assert embeddings.shape == shape
    assert names == []
    stored = torch.from_numpy(np.load(shared_data / 'text_embeddings' / file)).float()
    assert torch.allclose(embeddings, stored, atol=1e-3)  # unit rows as they are


def test_positions_that_no_prompt_reaches_are_not_run(clip, monkeypatch):
    seen = []
    run = clip.text.transformer.forward
    monkeypatch.setattr(
        clip.text.transformer,
        'forward',
        lambda x, **kwargs: seen.append(x.shape[1]) or run(x, **kwargs),
    )
    embedder = TextEmbedder(clip, ['a {}'])
    short = embedder.embed(['cat', 'dog'])
    monkeypatch.undo()
    assert seen == [4]  # start, a, cat, end
    with torch.no_grad():
        whole = clip.text(clip.tokenizer(['a cat', 'a dog']))
    torch.testing.assert_close(short, F.normalize(whole, dim=-1))
