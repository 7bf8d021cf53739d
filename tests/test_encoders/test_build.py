"""Building by name: what a user may ask for, and what he is told when it does not exist."""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip.model import CLIP
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from timm.models import get_arch_pretrained_cfgs
from torch import nn

from refineclip.encoders.build import build_clip, wrap_tower
from refineclip.encoders.towers.open_clip_vit import OpenCLIPViT
from refineclip.encoders.towers.timm_vit import TimmViT

# ViT-B-16 at toy size.
SMALL = dict(
    embed_dim=24,
    vision_cfg=dict(width=32, layers=2, head_width=16),
    text_cfg=dict(width=16, heads=2, layers=1, context_length=16),
)
DINOV2 = dict(img_size=56, embed_dim=32, depth=2, num_heads=2)
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)


def test_open_clip_name() -> None:
    clip = build_clip('ViT-B-16', model_kwargs=SMALL)
    visual = clip.visual
    assert isinstance(visual, OpenCLIPViT)
    assert (visual.patch_size, visual.width, visual.embed_dim, visual.num_blocks) == (16, 32, 24, 2)
    assert visual.native_size == (224, 224)
    assert visual.num_prefix_tokens == 1
    assert visual.image_mean == OPENAI_MEAN
    ids = clip.tokenizer(['a cat', 'a dog'])
    assert ids.shape == (2, 16)
    assert clip.text(ids).shape == (2, 24)
    assert clip.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    assert clip.logit_bias is None


def test_vision_only() -> None:
    clip = build_clip('ViT-B-16', text=False, model_kwargs=SMALL)
    assert clip.text is None
    assert clip.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    assert not any(key.startswith('text.') for key in clip.state_dict())


def test_siglip(toy_configs: dict[str, Any]) -> None:
    clip = build_clip(toy_configs['siglip'], text=False)
    assert clip.logit_bias.item() == -10
    assert clip.visual.num_prefix_tokens == 0


def test_siglip_name_brings_its_normalisation() -> None:
    vision = dict(timm_model_name='refineclip_toy_siglip')
    clip = build_clip('ViT-B-16-SigLIP', text=False, model_kwargs=dict(vision_cfg=vision))
    assert clip.visual.image_mean == clip.visual.image_std == (0.5, 0.5, 0.5)


def test_timm_tag_at_another_image_size(tmp_path: Path) -> None:
    """Positions are resized by the family's rule, plain bilinear, and not by timm's."""
    name, small = 'vit_pe_spatial_tiny_patch16_512', dict(embed_dim=32, depth=1, num_heads=2)
    library = timm.create_model(name, num_classes=0, **small)
    torch.save(library.state_dict(), tmp_path / 'a.pth')
    kwargs = dict(small, img_size=64, pretrained_cfg_overlay=dict(file=str(tmp_path / 'a.pth')))
    visual = build_clip(f'timm/{name}', 'fb', model_kwargs=kwargs).visual
    assert visual.native_size == (64, 64)
    grid = library.pos_embed[:, -32 * 32 :].transpose(1, 2).unflatten(2, (32, 32))
    expected = nn.functional.interpolate(grid, (4, 4), mode='bilinear').flatten(2).transpose(1, 2)
    torch.testing.assert_close(visual.trunk.pos_embed[:, -16:], expected)
    torch.testing.assert_close(visual.blocks[0].mlp.fc1.weight, library.blocks[0].mlp.fc1.weight)


def test_tokenizer_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'transformers', None)
    kwargs = dict(
        vision_cfg=dict(timm_model_name='refineclip_toy_siglip'),
        text_cfg=dict(width=16, heads=2, layers=1, vocab_size=9),
    )
    clip = build_clip('ViT-B-16-SigLIP2', model_kwargs=kwargs)
    with pytest.raises(ValueError, match=r'of ViT-B-16-SigLIP2 .*pip install transformers'):
        _ = clip.tokenizer


def test_timm_name() -> None:
    clip = build_clip('timm/vit_small_patch14_reg4_dinov2', model_kwargs=DINOV2)
    visual = clip.visual
    assert isinstance(visual, TimmViT)
    assert (visual.patch_size, visual.width, visual.embed_dim) == (14, 32, 32)
    assert visual.num_prefix_tokens == 5
    assert visual.image_mean == (0.485, 0.456, 0.406)
    assert clip.text is None
    assert clip.logit_scale is None
    with pytest.raises(ValueError, match='vision-only'):
        _ = clip.tokenizer


@pytest.mark.parametrize(('precision', 'dtype'), [('bf16', torch.bfloat16), ('fp16', torch.half)])
@pytest.mark.parametrize('family', ['open_clip', 'eva02', 'siglip'])
def test_precision(
    family: str, precision: str, dtype: torch.dtype, toy_configs: dict[str, Any]
) -> None:
    full = build_clip(toy_configs[family], text=False)
    low = build_clip(toy_configs[family], text=False, precision=precision)
    assert {p.dtype for p in low.parameters()} == {dtype}
    low.load_state_dict(full.state_dict())
    images = torch.randn(1, 3, 48, 32)
    dense = low.visual.dense(images.to(dtype))
    assert dense.dtype == dtype
    torch.testing.assert_close(dense.float(), full.visual.dense(images), atol=0.1, rtol=0.1)
    with pytest.raises(ValueError, match=r"\['bf16', 'fp16', 'fp32'\], got 'int8'"):
        build_clip(toy_configs[family], precision='int8')


def test_the_config_is_not_changed(toy_configs: dict[str, Any]) -> None:
    config = toy_configs['eva02']
    before = copy.deepcopy(config)
    build_clip(config, model_kwargs=dict(text_cfg=dict(layers=2)))
    assert config == before


@pytest.fixture
def tagged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> nn.Module:
    """A library model at toy size, served in place of every download of open_clip."""
    config = copy.deepcopy(open_clip.get_model_config('ViT-B-16'))
    for key, value in SMALL.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    library = CLIP(**config, quick_gelu=True).eval()
    save_file(library.state_dict(), tmp_path / 'tag.safetensors')
    monkeypatch.setattr(
        open_clip, 'download_pretrained', lambda config: str(tmp_path / 'tag.safetensors')
    )
    return library


def test_tag_that_needs_quick_gelu(tagged: nn.Module) -> None:
    clip = build_clip('ViT-B-16', 'openai', model_kwargs=SMALL).eval()
    activations = [block.mlp.gelu for block in clip.visual.blocks]
    activations += [block.mlp.gelu for block in clip.text.transformer.resblocks]
    assert all(isinstance(activation, QuickGELU) for activation in activations)
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(
        clip.visual(images), tagged.encode_image(images), atol=1e-5, rtol=1e-5
    )
    ids = clip.tokenizer(['a cat'])
    torch.testing.assert_close(clip.text(ids), tagged.encode_text(ids), atol=1e-5, rtol=1e-5)


def test_tag_that_does_not(tagged: nn.Module) -> None:
    clip = build_clip('ViT-B-16', 'laion2b_s34b_b88k', text=False, model_kwargs=SMALL)
    assert isinstance(clip.visual.blocks[0].mlp.gelu, nn.GELU)


def test_timm_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    create = timm.create_model

    def create_model(name: str, pretrained: bool, **kwargs: Any) -> nn.Module:
        asked.update(name=name, pretrained=pretrained)
        return create(name, **kwargs)

    monkeypatch.setattr(timm, 'create_model', create_model)
    build_clip('timm/vit_small_patch14_dinov2', 'lvd142m', model_kwargs=DINOV2)
    assert asked == dict(name='vit_small_patch14_dinov2.lvd142m', pretrained=True)
    with pytest.raises(ValueError, match=r"tags \['lvd142m'\].*got 'openai'"):
        build_clip('timm/vit_small_patch14_dinov2', 'openai', model_kwargs=DINOV2)


@pytest.fixture
def folder(toy_configs: dict[str, Any], tmp_path: Path) -> Path:
    """A model that open_clip itself can load from a folder."""
    config = toy_configs['quick_gelu']
    library = CLIP(**copy.deepcopy(config))
    content = dict(model_cfg=config, preprocess_cfg=dict(mean=[0.1] * 3, std=[0.2] * 3))
    (tmp_path / 'open_clip_config.json').write_text(json.dumps(content))
    save_file(library.state_dict(), tmp_path / 'open_clip_model.safetensors')
    return tmp_path


@pytest.mark.parametrize('by_name', [False, True])
def test_local_dir(by_name: bool, folder: Path) -> None:
    name = f'local-dir:{folder}'
    clip = (build_clip(name) if by_name else build_clip('ViT-B-16', name)).eval()
    library = open_clip.create_model(name).eval()
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(clip.visual(images), library.encode_image(images))
    ids = clip.tokenizer(['a cat'])
    assert ids.shape == (1, 16)
    torch.testing.assert_close(clip.text(ids), library.encode_text(ids), atol=1e-5, rtol=1e-5)
    assert clip.visual.image_mean == (0.1, 0.1, 0.1)
    assert clip.visual.image_std == (0.2, 0.2, 0.2)


def test_local_dir_without_its_files(folder: Path) -> None:
    (folder / 'open_clip_model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='expected weights in'):
        build_clip(f'local-dir:{folder}')
    with pytest.raises(FileNotFoundError, match=r'open_clip_config\.json'):
        build_clip('ViT-B-16', f'local-dir:{folder / "nowhere"}')


@pytest.mark.parametrize(
    ('model', 'pretrained', 'error', 'message'),
    [
        ('ViT-B16', None, ValueError, "got 'ViT-B16'; close matches: .*'ViT-B-16'"),
        ('timm/vit_small_patch14_dino2', None, ValueError, "'vit_small_patch14_dinov2'"),
        ('ViT-B-16', 'opnai', ValueError, r"tags \['openai'.*got 'opnai'"),
        ('ViT-B-16', 'weights/none.pt', FileNotFoundError, r'weights/none\.pt'),
        ('timm/vit_small_patch14_dinov2', 'none.pth', FileNotFoundError, r'none\.pth'),
        ('coca_ViT-B-32', None, ValueError, 'got a CoCa config'),
        (dict(embed_dim=8), None, ValueError, r"config with \['vision_cfg'\]"),
        ('timm/resnet18', None, ValueError, 'VisionTransformer or Eva, got ResNet'),
        ('timm/vitamin_small_224', None, ValueError, 'patch embedding, got HybridEmbed'),
        ('timm/fastvit_t8', None, ValueError, 'got FastVit, a convolutional.*MobileCLIP2-B or'),
        (
            'timm/naflexvit_base_patch16_gap',
            None,
            ValueError,
            'NaFlexVit, .*ViT-B-16-SigLIP2',
        ),
        ('timm/eva02_enormous_patch14_clip_224', None, ValueError, 'got .*EvaBlockPostNorm'),
    ],
)
def test_what_cannot_be_built(
    model: Any, pretrained: str | None, error: type[Exception], message: str
) -> None:
    small = any(word in str(model) for word in ('enormous', 'naflexvit'))
    kwargs = dict(embed_dim=32, depth=1, num_heads=2) if small else None
    with pytest.raises(error, match=message):
        build_clip(model, pretrained, model_kwargs=kwargs)


def test_towers_that_cannot_be_dense() -> None:
    config = dict(image_size=32, layers=[1, 1, 1, 1], width=16, head_width=16)
    with pytest.raises(ValueError, match='got ModifiedResNet'):
        build_clip(dict(embed_dim=16, vision_cfg=config), text=False)
    with pytest.raises(ValueError, match='got Linear'):
        wrap_tower(nn.Linear(1, 1), OPENAI_MEAN, OPENAI_MEAN)
    config = dict(image_size=32, layers=1, width=16, head_width=16, attentional_pool=True)
    with pytest.raises(ValueError, match='attentional pooler'):
        build_clip(dict(embed_dim=16, vision_cfg=config), text=False)
    with pytest.raises(ValueError, match='patch dropout'):
        build_clip('timm/vit_small_patch14_dinov2', model_kwargs=dict(DINOV2, patch_drop_rate=0.5))


def test_patch_dropout_of_a_config_is_off() -> None:
    override = dict(SMALL, vision_cfg=dict(SMALL['vision_cfg'], patch_dropout=0.5))
    clip = build_clip('ViT-B-16', text=False, model_kwargs=override).train()
    assert clip.visual.dense(torch.randn(1, 3, 32, 48)).shape == (1, 24, 2, 3)


@pytest.mark.parametrize(
    ('images', 'error', 'message'),
    [
        (torch.zeros(3, 32, 32), ValueError, r'\(B, 3, H, W\), got \(3, 32, 32\)'),
        (torch.zeros(1, 1, 32, 32), ValueError, r'got \(1, 1, 32, 32\)'),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), TypeError, r'got torch\.uint8'),
        (torch.zeros(1, 3, 8, 40), ValueError, '16 x 32 and 16 x 48'),
    ],
)
def test_images_that_do_not_fit(
    images: torch.Tensor, error: type[Exception], message: str, toy_configs: dict[str, Any]
) -> None:
    visual = build_clip(toy_configs['open_clip'], text=False).visual
    with pytest.raises(error, match=message):
        visual.embed(images)


def test_map_is_row_by_row(toy_configs: dict[str, Any]) -> None:
    visual = build_clip(toy_configs['open_clip'], text=False).visual
    tokens = torch.arange(7.0)[None, :, None]
    expected = [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]
    assert visual.to_map(tokens, (2, 3))[0].tolist() == expected
    with pytest.raises(ValueError, match='1 prefix \\+ 3 x 3 = 10 tokens, got 7'):
        visual.to_map(tokens, (3, 3))


def test_run_range(toy_configs: dict[str, Any]) -> None:
    visual = build_clip(toy_configs['open_clip'], text=False).visual
    tokens = torch.zeros(1, 5, 32)
    assert visual.run(tokens, (2, 2), 3) is tokens
    with pytest.raises(ValueError, match='<= 3 blocks, got start=2, stop=1'):
        visual.run(tokens, (2, 2), 2, 1)


def expand(name: str) -> list[str]:
    """Expand braces as a shell does: ``a{b,c}`` gives ``ab`` and ``ac``."""
    head, brace, rest = name.partition('{')
    if not brace:
        return [name]
    inner, _, tail = rest.partition('}')
    return [head + part + end for part in inner.split(',') for end in expand(tail)]


def test_every_tower_of_the_table_has_its_weights() -> None:
    """Names and tags in docs/how_to.md are those of the installed libraries."""
    text = (Path(__file__).resolve().parents[2] / 'docs' / 'how_to.md').read_text()
    section = text.partition('## Use another tower')[2].partition('\n## ')[0]
    rows = [line.split('|')[2] for line in section.splitlines() if line.startswith('| ')][2:]
    found = 0
    for row in rows:
        waiting: list[str] = []
        for name, tag in re.findall(r'`([^`]+)`(?: \(`([^`]+)`\))?', row):
            waiting += expand(name)
            for model in waiting if tag else []:
                found += 1
                if model.startswith('timm/'):
                    full = get_arch_pretrained_cfgs(model.removeprefix('timm/'))
                    tags = [key.partition('.')[2] for key in full]
                else:
                    tags = open_clip.list_pretrained_tags_by_model(model)
                assert tag in tags, model
            waiting = [] if tag else waiting
        assert not waiting, row
    assert found > 40


def test_a_config_that_the_library_cannot_build() -> None:
    without_text = {key: value for key, value in SMALL.items() if key != 'text_cfg'}
    with pytest.raises(ValueError, match=r'expected text_cfg.*text=False'):
        build_clip(without_text)
    assert build_clip(without_text, text=False).text is None
    odd = {**SMALL, 'vision_cfg': dict(width=32.5, layers=2, head_width=16)}
    with pytest.raises(ValueError, match='expected a config that open_clip can build'):
        build_clip(odd)
