"""Folders that the real classes of transformers load; equal numbers on random weights."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import timm
import torch
import transformers
from torch import nn

from refineclip.encoders import DenseCLIP, RefinerCLIP, build_clip
from refineclip.encoders.towers.timm_vit import TimmViT
from refineclip.export.compare import drawn_picture, require_equal
from refineclip.export.subject import Subject, load_subject, sample_tokens
from refineclip.export.transformers_folder import as_transformers, export_transformers

from .toys import NATIVE_SIGLIP, assert_no_pickle, files, randomize, toy_folder

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def export(subject: Subject, out: Path) -> Path:
    out.mkdir()
    require_equal(export_transformers(subject, out, drawn_picture()))
    assert_no_pickle(out)
    return out


@pytest.mark.parametrize('name', ['open_clip', 'quick_gelu'])
def test_a_refined_clip_is_a_clip_model(name: str, tmp_path: Path) -> None:
    model = toy_folder(tmp_path / 'toy', name)
    refined = RefinerCLIP(model, model)
    for parameter in refined.visual.blocks[-1].parameters():
        parameter.data.mul_(1.5)
    torch.save(refined.state_dict(), tmp_path / 'refined.pth')
    out = export(load_subject(model, str(tmp_path / 'refined.pth'), model), tmp_path / 'out')
    assert files(out) == {
        *('config.json', 'model.safetensors', 'preprocessor_config.json'),
        *('tokenizer.json', 'tokenizer_config.json'),
    }
    clip = build_clip(model, model).eval()
    tokens = clip.tokenizer(['a zebra', 'a photo of a traffic light'])
    loaded = transformers.CLIPModel.from_pretrained(out)
    with torch.no_grad():
        found = loaded(input_ids=tokens, pixel_values=IMAGES)
        image = nn.functional.normalize(refined.eval().image_embedding(IMAGES), dim=-1)
        text = nn.functional.normalize(clip.text(tokens), dim=-1)
        torch.testing.assert_close(found.image_embeds, image, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.text_embeds, text, atol=1e-5, rtol=1e-5)
        logits = clip.logit_scale.exp() * image @ text.T
        torch.testing.assert_close(found.logits_per_image, logits, atol=1e-4, rtol=1e-4)
    # And back again, by the same table.
    again = build_clip(model, str(out / 'model.safetensors'))
    state = refined.visual.state_dict()
    assert again.visual.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in again.visual.state_dict().items())


def test_a_siglip_is_a_siglip_model(tmp_path: Path) -> None:
    model = toy_folder(tmp_path / 'toy', NATIVE_SIGLIP)
    out = export(load_subject(model, model), tmp_path / 'out')
    clip = build_clip(model, model).eval()
    tokens = sample_tokens(clip.text, 16)
    loaded = transformers.SiglipModel.from_pretrained(out)
    with torch.no_grad():
        found = loaded(input_ids=tokens, pixel_values=IMAGES)
        image = nn.functional.normalize(clip.visual.image_embedding(IMAGES), dim=-1)
        text = nn.functional.normalize(clip.text(tokens), dim=-1)
        logits = clip.logit_scale.exp() * image @ text.T + clip.logit_bias
    torch.testing.assert_close(found.logits_per_image, logits, atol=1e-4, rtol=1e-4)
    processor = transformers.AutoImageProcessor.from_pretrained(out)
    assert list(processor.image_mean) == [0.4, 0.5, 0.6]


@pytest.mark.parametrize(('registers', 'kind'), [('', ''), ('_reg4', 'WithRegisters')])
def test_a_dinov2_is_a_dinov2_model(registers: str, kind: str, tmp_path: Path) -> None:
    sizes = dict(img_size=56, embed_dim=32, depth=2, num_heads=2, num_classes=0)
    tower = timm.create_model(f'vit_small_patch14{registers}_dinov2', **sizes)
    visual = TimmViT(randomize(tower), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)).eval()
    encoder = RefinerCLIP('microworld-clip')
    encoder.visual = visual
    out = export(Subject('timm/toy', 'random', encoder, None), tmp_path / 'out')
    assert files(out) == {'config.json', 'model.safetensors', 'preprocessor_config.json'}
    loaded = getattr(transformers, f'Dinov2{kind}Model').from_pretrained(out)
    images = IMAGES[..., :56, :56]
    with torch.no_grad():
        tokens, grid = visual.embed(images)
        expected = visual.norm(visual.run(tokens, grid))
        found = loaded(pixel_values=images).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('name', ['eva02', 'pe_core', 'mobileclip_b'])
def test_an_architecture_that_transformers_lacks_is_a_sentence(name: str, tmp_path: Path) -> None:
    model = toy_folder(tmp_path / 'toy', name)
    with pytest.raises(ValueError, match=r'or Dinov2Model, got .*; export it as open-clip'):
        export(load_subject(model, model), tmp_path / 'out')


def test_another_text_tower_is_a_sentence(tmp_path: Path) -> None:
    model = toy_folder(tmp_path / 'toy', 'siglip')  # whose text is that of a CLIP
    with pytest.raises(ValueError, match='expected a text tower that attends both ways'):
        export(load_subject(model, model), tmp_path / 'out')
    refined = Subject('toy', 'refined.pth', RefinerCLIP('microworld-clip'), None)
    with pytest.raises(ValueError, match='name its weights with --text-pretrained'):
        export(refined, tmp_path / 'again')


def test_layers_without_a_place_are_named(tmp_path: Path) -> None:
    config = dict(
        embed_dim=24,
        vision_cfg=dict(image_size=64, layers=1, width=32, head_width=16, patch_size=16),
        text_cfg=dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=1),
    )
    config['vision_cfg']['ls_init_value'] = 0.1
    model = toy_folder(tmp_path / 'toy', config)
    with pytest.raises(ValueError, match=r'expected weights that fill CLIPModel .*ls_1'):
        export(load_subject(model, model), tmp_path / 'out')


def test_tokenizers_cut_alike() -> None:
    texts = ['a photo of a U.S. flag', "a zebra, isn't it?", 'Größe 1.5', 'a dog & a cat   here']
    ours = open_clip.get_tokenizer('ViT-B-16')
    theirs = as_transformers(ours)
    found = theirs(texts)['input_ids']
    for row, ids in zip(ours(texts).tolist(), found, strict=True):
        assert row[: len(ids)] == ids
        assert not any(row[len(ids) :])


def test_towers_are_left_as_they_were() -> None:
    clip = build_clip('microworld-clip', 'shipped')
    before = {key: value.clone() for key, value in clip.state_dict().items()}
    from refineclip.export.transformers_state import clip_state

    state = clip_state(DenseCLIP(clip.visual, clip.text, clip.logit_scale))
    assert 'visual_projection.weight' in state
    assert all(torch.equal(value, before[key]) for key, value in clip.state_dict().items())
