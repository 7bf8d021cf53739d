"""Published checkpoints: every tensor finds its place, or the command says which does not."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg.models')

from mmengine.registry import MODELS

from benchmarks import cat_seg_reference as reference
from refineclip.segmentation.cat_seg.cost_aggregation import CostAggregator

from .toys import cat_seg, cat_seg_cfg

pytestmark = pytest.mark.mm

PREDICTOR = 'sem_seg_head.predictor.'
# Ours -> published, written from the published names; the last rule of a kind is general.
BACK = [
    (r'backbone\.visual\.model\.(.*)', PREDICTOR + r'clip_model.visual.\1'),
    (r'text_encoder\.text\.(.*)', PREDICTOR + r'clip_model.\1'),
    (r'decode_head\.guidance_upsample\.0\.(.*)', r'upsample1.\1'),
    (r'decode_head\.guidance_upsample\.1\.(.*)', r'upsample2.\1'),
    (r'decode_head\.aggregator\.(.*)', PREDICTOR + r'transformer.\1'),
]
INSIDE = [
    ('cost_embedding.', 'conv1.'),
    ('appearance_projection.', 'guidance_projection.0.'),
    ('decoder.projections.0.', 'decoder_guidance_projection.0.0.'),
    ('decoder.projections.1.', 'decoder_guidance_projection.1.0.'),
    ('transformer.text_projection.', 'transformer.text_guidance_projection.0.'),
    ('spatial.guidance_norm', 'swin_block.guidance_norm'),
    ('spatial.blocks.0.mlp.0', 'swin_block.block_1.mlp.fc1'),
    ('spatial.blocks.0.mlp.2', 'swin_block.block_1.mlp.fc2'),
    ('spatial.blocks.1.mlp.0', 'swin_block.block_2.mlp.fc1'),
    ('spatial.blocks.1.mlp.2', 'swin_block.block_2.mlp.fc2'),
    ('spatial.blocks.0.', 'swin_block.block_1.'),
    ('spatial.blocks.1.', 'swin_block.block_2.'),
    ('classes.attn.', 'attention.attention.'),
    ('classes.mlp.', 'attention.MLP.'),
    ('classes.padding_token', 'attention.padding_tokens'),
    ('classes.', 'attention.'),
    ('decoder.stages.0.up', 'decoder1.up'),
    ('decoder.stages.1.up', 'decoder2.up'),
    *(
        (f'decoder.stages.{i}.{ours}', f'decoder{i + 1}.conv.double_conv.{place}')
        for i in (0, 1)
        for ours, place in (('conv1', 0), ('norm1', 1), ('conv2', 3), ('norm2', 4))
    ),
    ('decoder.head', 'head'),
]


def publish(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name and shape a state dict of ours as the release does."""
    published = {
        # What the release has besides.
        PREDICTOR + 'clip_model.logit_scale': torch.zeros(()),
        PREDICTOR + 'transformer.layers.0.swin_block.block_2.attn_mask': torch.zeros(4, 4, 4),
    }
    for name, tensor in state.items():
        for ours, theirs in BACK:
            if re.fullmatch(ours, name):
                name = re.sub(ours, theirs, name)
                break
        if '.predictor.transformer.' in name:
            for ours, theirs in INSIDE:
                if ours in name:
                    name = name.replace(ours, theirs)
                    break
        if name.endswith('in_proj_weight'):
            for part, rows in zip('qkv', tensor.chunk(3), strict=True):
                published[name.replace('in_proj_weight', f'{part}_proj_weight')] = rows
        else:
            published[name] = tensor.view(1, 1, -1) if 'padding_' in name else tensor
    return published


def load_tool(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def tool(repo_root):
    return load_tool(repo_root / 'tools' / 'convert' / 'catseg.py')


@pytest.fixture
def config(tmp_path) -> Path:
    """A config file of the toy model."""
    path = tmp_path / 'toy.py'
    path.write_text(f"default_scope = 'mmseg'\nmodel = {cat_seg_cfg()!r}\n")
    return path


@torch.no_grad()
def test_converted_model_gives_the_same_logits(tool, config, tmp_path, capsys):
    model = cat_seg().eval()
    torch.save({'model': publish(model.state_dict()), 'iteration': 5}, tmp_path / 'in.pth')
    out = tmp_path / 'out.pth'
    assert tool.main([str(tmp_path / 'in.pth'), str(out), '--config', str(config)]) == 0
    table = capsys.readouterr().out
    assert 'sem_seg_head.predictor.clip_model.* -> left out' in table
    assert 'upsample1.* -> decode_head.guidance_upsample.*' in table
    assert 'none missing' in table
    other = MODELS.build(cat_seg_cfg()).eval()
    images = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(other(images), model(images), atol=1e-2)
    other.load_state_dict(torch.load(out)['state_dict'])
    torch.testing.assert_close(other(images), model(images))


def test_holes_are_named(tool, config, tmp_path, capsys):
    state = publish(cat_seg().state_dict())
    del state['upsample1.bias']
    block = PREDICTOR + 'clip_model.visual.transformer.resblocks.1.attn.'
    del state[block + 'k_proj_weight']
    state['backbone.stem.conv1.weight'] = torch.zeros(1)
    state['upsample2.bias'] = torch.zeros(3)
    torch.save({'model': state}, tmp_path / 'in.pth')
    out = tmp_path / 'out.pth'
    assert tool.main([str(tmp_path / 'in.pth'), str(out), '--config', str(config)]) == 1
    errors = capsys.readouterr().err
    for message in (
        'no rule for backbone.stem.conv1.weight',
        'resblocks.1.attn.k_proj_weight (missing)',
        'no tensor for decode_head.guidance_upsample.0.bias',
        'guidance_upsample.1.bias: expected (5,), got (3,)',
    ):
        assert message in errors
    assert not out.exists()


def test_wrong_files(tool, tmp_path, capsys):
    assert tool.main([str(tmp_path / 'absent.pth'), str(tmp_path / 'out.pth')]) == 1
    assert 'found none' in capsys.readouterr().err
    torch.save({'model': {'x': torch.zeros(1)}}, tmp_path / 'in.pth')
    assert tool.main([str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth')]) == 1
    assert 'image tower of width [768, 1024], got None' in capsys.readouterr().err


def test_positions_are_resized_without_smoothing(tool):
    position = torch.randn(1 + 7 * 7, 3)
    resized = tool.resize_positions(position, 1 + 12 * 12)
    assert torch.equal(resized[0], position[0])
    grid = position[1:].view(7, 7, 3).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(grid, (12, 12), mode='bicubic')[0]
    torch.testing.assert_close(resized[1:].view(12, 12, 3).permute(2, 0, 1), expected)


@pytest.mark.parametrize('width', [768, 1024])
def test_real_sizes_have_a_place_for_everything(tool, width):
    """The names and shapes of a published B and L, on the meta device."""
    expected = tool.build_expected(tool.CONFIG_OF_WIDTH[width])
    state, _, unknown = tool.convert(publish(expected))
    assert unknown == []
    assert tool.check(state, expected) == []
    # Facts of the published layout.
    depth = {768: 12, 1024: 24}[width]
    published = publish(expected)
    shapes = {name: tuple(tensor.shape) for name, tensor in published.items()}
    layer = PREDICTOR + 'transformer.layers.1.'
    assert shapes['upsample1.weight'] == (width, 256, 2, 2)
    assert shapes['upsample2.weight'] == (width, 128, 4, 4)
    assert shapes[layer + 'swin_block.block_2.attn.q.weight'] == (128, 256)
    assert shapes[layer + 'attention.padding_tokens'] == (1, 1, 128)
    assert shapes[PREDICTOR + 'transformer.decoder1.conv.double_conv.0.weight'] == (64, 128, 3, 3)
    assert shapes[PREDICTOR + 'transformer.decoder2.up.weight'] == (64, 48, 2, 2)
    assert shapes[PREDICTOR + 'clip_model.visual.positional_embedding'] == (577, width)
    last = f'clip_model.visual.transformer.resblocks.{depth - 1}.attn.q_proj_weight'
    assert shapes[PREDICTOR + last] == (width, width)
    assert layer.replace('1.', '2.') + 'attention.norm1.weight' not in shapes


@torch.no_grad()
def test_sample_to_compare_with_the_release(tool, repo_root, tmp_path, monkeypatch):
    """All weights of the release; logits that the written-out computation has as well."""
    monkeypatch.syspath_prepend(repo_root / 'tools' / 'convert')
    sampler = load_tool(repo_root / 'tools' / 'convert' / 'catseg_sample.py')
    assert sampler.main([str(tmp_path / 'sample.pth'), '--classes', '3']) == 0
    sample = torch.load(tmp_path / 'sample.pth')
    state, _, unknown = tool.convert(
        {PREDICTOR + f'transformer.{name}': tensor for name, tensor in sample['state'].items()}
    )
    assert unknown == []
    aggregator = CostAggregator().eval()
    ours = {name.removeprefix('decode_head.aggregator.'): one for name, one in state.items()}
    aggregator.load_state_dict(ours)
    image, text, (_, *guidance) = sample['inputs']
    expected = reference.aggregate(aggregator, image, text[0, :, 0], guidance)
    torch.testing.assert_close(sample['logits'], expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


def test_help(repo_root):
    command = [sys.executable, str(repo_root / 'tools' / 'convert' / 'catseg.py'), '--help']
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0
    assert 'IN OUT' in result.stdout
