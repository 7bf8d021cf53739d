"""The CLIP towers of CAT-Seg: what learns, what is computed, what stays."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmseg.models')

from mmengine.runner.checkpoint import get_state_dict, load_state_dict
from mmengine.runner.checkpoint import weights_to_cpu as to_cpu

from refineclip.encoders import build_clip
from refineclip.encoders.text.prompt_encoding import encode_prompts
from refineclip.segmentation.cat_seg.prompted_text import PromptedTextEncoder, first_synonym
from refineclip.segmentation.cat_seg.query_value_tuning import train_query_value_only

from .toys import NAMES, TOWER

pytestmark = pytest.mark.mm

EVA = dict(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=12)


def separate_eva():
    return build_clip(
        'timm/eva02_tiny_patch14_224', text=False, model_kwargs=dict(EVA, qkv_fused=False)
    ).visual


def fused_eva():
    return build_clip(
        'timm/eva02_tiny_patch14_224', text=False, model_kwargs=dict(EVA, qkv_fused=True)
    ).visual


def timm_vit():
    return build_clip('timm/vit_tiny_patch16_224', text=False, model_kwargs=EVA).visual


def open_clip_vit():
    return build_clip(TOWER, text=False).visual


TOWERS = [open_clip_vit, separate_eva, fused_eva, timm_vit]
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('build', TOWERS)
def test_only_query_and_value_weights_move(build):
    """Under AdamW with a strong weight decay, which moves whatever it is given."""
    tower = build()
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    outputs = tower.dense(IMAGES, 'plain')
    train_query_value_only(tower)
    torch.testing.assert_close(tower.dense(IMAGES, 'plain'), outputs)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=0.01, weight_decay=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        tower.dense(IMAGES, 'plain').square().mean().backward()
        optimizer.step()
    after = tower.state_dict()
    assert sorted(after) == sorted(before)
    moved = 0
    for name, old in before.items():
        new = after[name]
        if name.endswith(('in_proj_weight', 'qkv.weight')):
            for part, a, b in zip('qkv', old.chunk(3), new.chunk(3), strict=True):
                assert torch.equal(a, b) == (part == 'k'), (name, part)
            moved += 1
        elif name.endswith(('q_proj.weight', 'v_proj.weight')):
            assert not torch.equal(old, new), name
            moved += 1
        else:
            assert torch.equal(old, new), name
    assert moved >= 2


@pytest.mark.parametrize('build', [open_clip_vit, fused_eva])
def test_files_keep_the_names_of_the_library(build):
    plain, tuned, other = build(), build(), build()
    for tower in (tuned, other):
        train_query_value_only(tower)
    tuned.load_state_dict(plain.state_dict())
    load_state_dict(other, to_cpu(get_state_dict(plain)), strict=True)
    twin = copy.deepcopy(tuned)
    for tower in (tuned, other, twin):
        torch.testing.assert_close(tower.dense(IMAGES), plain.dense(IMAGES))
        assert get_state_dict(tower).keys() == plain.state_dict().keys()
    plain.load_state_dict(tuned.state_dict())
    # The copy is a copy: its weights and its loading are its own.
    twin.load_state_dict({name: 0 * value for name, value in plain.state_dict().items()})
    assert tuned.dense(IMAGES).abs().sum() > 0


def test_tuning_twice_is_tuning_once():
    tower = open_clip_vit()
    assert train_query_value_only(tower) == train_query_value_only(tower)
    assert len(train_query_value_only(tower)) == 2 * 3


def test_tuning_needs_attentions():
    with pytest.raises(ValueError, match='attentions named attn'):
        train_query_value_only(torch.nn.Linear(2, 2))


@torch.no_grad()
def test_value_cls_by_hand():
    """Every token starts from the class token, then adds its own value and the MLP."""
    tower = open_clip_vit()
    tokens, grid = tower.embed(IMAGES)
    tokens = tower.run(tokens, grid, 0, 2)
    block = tower.blocks[2]
    weight, bias = block.attn.in_proj_weight[32:], block.attn.in_proj_bias[32:]
    value = block.attn.out_proj(F.linear(block.ln_1(tokens), weight, bias))
    mixed = value + tokens[:, :1]
    expected = mixed + block.mlp(block.ln_2(mixed))
    torch.testing.assert_close(tower.run_dense(tokens, grid, 2, 'value-cls'), expected)
    # The class token itself is that of the mode 'value', the others are not.
    plain = tower.run_dense(tokens, grid, 2, 'value')
    torch.testing.assert_close(plain[:, 0], expected[:, 0])
    assert not torch.allclose(plain[:, 1], expected[:, 1], atol=1e-3)


@pytest.fixture(scope='module')
def text():
    return PromptedTextEncoder(TOWER)


def test_trimmed_context_changes_nothing(text):
    """Prompts of 8 to 11 tokens in a context of 16; values and gradients."""
    names = ('cat', 'traffic light', 'a rather long name of three')
    tokens = text.tokenize(names)
    assert tokens.shape == (3, 16)
    weight = text.text.transformer.resblocks[0].mlp.c_fc.weight
    results = []
    for embeddings in (encode_prompts(text.text, tokens), text.text(tokens)):
        results.append((embeddings, torch.autograd.grad(embeddings.square().sum(), weight)[0]))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_positions_after_the_longest_prompt_are_not_run(text, monkeypatch):
    seen = []
    transformer = text.text.transformer
    forward = transformer.forward
    monkeypatch.setattr(
        transformer, 'forward', lambda x, **kwargs: seen.append(x.shape) or forward(x, **kwargs)
    )
    text(NAMES)
    # start, 'a photo of a cat in the scene', end
    assert seen == [(3, 10, 16)]


def test_towers_that_look_ahead_run_as_they_are():
    config = {**TOWER, 'text_cfg': {**TOWER['text_cfg'], 'no_causal_mask': True}}
    encoder = PromptedTextEncoder(config)
    tokens = encoder.tokenize(NAMES)
    torch.testing.assert_close(
        encode_prompts(encoder.text, tokens), encoder.text(tokens), atol=0, rtol=0
    )


def test_cached_in_evaluation_until_something_changes(text):
    calls = []
    handle = text.text.transformer.register_forward_hook(lambda *_: calls.append(1))
    text.eval()
    with torch.no_grad():
        first = text(NAMES)
        assert text(list(NAMES)) is first
        assert len(calls) == 1
        text(('cat',))
        text.load_state_dict(text.state_dict())
        text(('cat',))
        assert len(calls) == 3
    text(('cat',))  # with gradient: not from the cache
    assert len(calls) == 4
    text.train()
    assert text(NAMES).requires_grad
    assert len(calls) == 5
    handle.remove()
    torch.testing.assert_close(first.norm(dim=1), torch.ones(3))


def test_first_synonym_counts(text):
    assert [first_synonym(x) for x in ('bed; cot', 'salt, pepper', 'big_car', '{brace}')] == [
        *('bed', 'salt, pepper', 'big car', '{brace}')
    ]
    torch.testing.assert_close(text(('bed; cot',)), text(('bed',)))
    expected = text.tokenizer(['A photo of a bed in the scene'])
    assert torch.equal(text.tokenize(('bed; beds',)), expected)


def test_frozen_text_has_no_gradient():
    encoder = PromptedTextEncoder(TOWER, frozen=True).train()
    assert not encoder.text.training
    assert not encoder(NAMES).requires_grad


def test_wrong_text_encoders():
    with pytest.raises(ValueError, match=r"a sentence with '\{\}'"):
        PromptedTextEncoder(TOWER, prompt='a photo')
    with pytest.raises(ValueError, match='a text tower'):
        PromptedTextEncoder('timm/vit_tiny_patch16_224', model_kwargs=EVA)


@torch.no_grad()
def test_cached_embeddings_follow_the_tower():
    encoder = PromptedTextEncoder(TOWER).eval()
    assert encoder(['cat']).dtype == torch.float32
    assert encoder.double()(['cat']).dtype == torch.float64
