"""One tester for every family of encoders, held against the untouched library."""

from __future__ import annotations

import copy
from typing import Any

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from open_clip.model import CustomTextCLIP, resize_pos_embed
from torch import Tensor, nn

from refineclip.encoders.build import build_clip
from refineclip.encoders.dense_modes import list_dense_modes
from refineclip.encoders.dense_vit import DenseViT

TIMM_TOY = dict(embed_dim=32, depth=3, num_heads=2)


def randomise(model: nn.Module) -> None:
    """Move every parameter away from its initial value: zeros and tiny scales would hide errors."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)


def fused_value(block: nn.Module, x: Tensor, fused: str) -> Tensor:
    """Last third of a fused q-k-v projection, by hand."""
    state = block.state_dict()
    third = x.shape[-1]
    bias = state.get(f'attn.{fused}bias')
    bias = None if bias is None else bias[2 * third :]
    return F.linear(x, state[f'attn.{fused}weight'][2 * third :], bias)


class DenseViTTester:
    """What every family must satisfy; a family says how to build it, with and without us."""

    grids = ((1, 1), (3, 5), (6, 2))

    def build(self, configs: dict[str, Any]) -> DenseViT:
        raise NotImplementedError

    def library(self, configs: dict[str, Any]) -> nn.Module:
        """Build the vision tower by the library alone."""
        raise NotImplementedError

    def resized(self, library: nn.Module, size: tuple[int, int]) -> nn.Module:
        """Let the library move its tower to another image size."""
        library.set_input_size(size)
        return library

    def tokens(self, library: nn.Module, images: Tensor) -> Tensor:
        """Normed tokens of the last block, by the library."""
        return getattr(library, 'trunk', library).forward_features(images)

    def value_block(self, block: nn.Module, x: Tensor) -> Tensor:
        """CLIPSelf's last block, written by hand from the weights."""
        raise NotImplementedError

    def projected(self, library: nn.Module, tokens: Tensor) -> Tensor:
        """Final norm and head of one token ``(B, 1, W)`` by the library, ``(B, D)``."""
        trunk = getattr(library, 'trunk', library)
        return getattr(library, 'head', nn.Identity())(trunk.forward_head(trunk.norm(tokens)))

    @pytest.fixture
    def visual(self, toy_configs: dict[str, Any]) -> DenseViT:
        visual = self.build(toy_configs)
        randomise(visual)
        return visual.eval()

    @pytest.fixture
    def plain(self, visual: DenseViT, toy_configs: dict[str, Any]) -> nn.Module:
        """The library's tower with the same weights; strict loading proves that keys are kept."""
        library = self.library(toy_configs)
        library.load_state_dict(visual.model.state_dict(), strict=True)
        return library.eval()

    def images(self, visual: DenseViT, grid: tuple[int, int] | None = None) -> Tensor:
        size = visual.native_size if grid is None else [n * visual.patch_size for n in grid]
        return torch.randn(2, 3, *size)

    def test_forward_equals_library(self, visual: DenseViT, plain: nn.Module) -> None:
        images = self.images(visual)
        tokens, grid = visual.embed(images)
        ours = visual.norm(visual.run(tokens, grid))
        torch.testing.assert_close(ours, self.tokens(plain, images), atol=1e-5, rtol=1e-5)
        expected = plain(images)
        torch.testing.assert_close(visual.image_embedding(images), expected, atol=1e-5, rtol=1e-5)
        assert visual.embed_dim == expected.shape[1]
        assert expected.std() > 1e-2

    def test_gradient_equals_library(self, visual: DenseViT, plain: nn.Module) -> None:
        images = self.images(visual)
        visual.image_embedding(images).square().mean().backward()
        plain(images).square().mean().backward()
        ours = dict(visual.model.named_parameters())
        for name, parameter in plain.named_parameters():
            if parameter.grad is None:
                assert ours[name].grad is None
            else:
                torch.testing.assert_close(ours[name].grad, parameter.grad, atol=1e-4, rtol=1e-4)

    def test_other_grids_equal_resized_library(self, visual: DenseViT, plain: nn.Module) -> None:
        for grid in self.grids:
            images = self.images(visual, grid)
            resized = self.resized(copy.deepcopy(plain), tuple(images.shape[2:]))
            ours = visual.image_embedding(images)
            torch.testing.assert_close(ours, resized(images), atol=1e-5, rtol=1e-5)
            assert visual.dense(images).shape == (2, visual.embed_dim, *grid)

    def test_value_mode_by_hand(self, visual: DenseViT) -> None:
        images = self.images(visual, (2, 3))
        tokens, grid = visual.embed(images)
        last = visual.num_blocks - 1
        expected = self.value_block(visual.blocks[last], visual.run(tokens, grid, 0, last))
        ours = visual.run_dense(tokens, grid, 0, 'value')
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)

    def test_pieces_make_the_block(self, visual: DenseViT) -> None:
        tokens, grid = visual.embed(self.images(visual, (2, 3)))
        view = visual.block_view(1, grid)
        q, k, v = view.qkv(tokens)
        weights = (q @ k.transpose(-1, -2) * view.scale).softmax(dim=-1)
        x = tokens + view.output(weights @ v)
        x = x + view.mlp(x)
        torch.testing.assert_close(x, visual.run(tokens, grid, 1, 2), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(view.value(tokens), v, atol=1e-6, rtol=1e-6)

    def test_project_is_the_library_head_per_token(
        self, visual: DenseViT, plain: nn.Module
    ) -> None:
        tokens = torch.randn(2, 4, visual.width)
        expected = [self.projected(plain, tokens[:, i : i + 1]) for i in range(4)]
        ours = visual.project(tokens)
        torch.testing.assert_close(ours, torch.stack(expected, dim=1), atol=1e-5, rtol=1e-5)

    def test_every_mode_has_a_gradient(self, visual: DenseViT) -> None:
        images = self.images(visual, (2, 3))
        for mode in list_dense_modes():
            visual.zero_grad()
            visual.dense(images, mode, normalize=True)[:, 0].sum().backward()
            for index in range(visual.num_blocks):
                grads = [p.grad for p in visual.blocks[index].parameters() if p.grad is not None]
                assert sum(grad.abs().sum() for grad in grads) > 0, (mode, index)

    def test_split_run_equals_whole_run(self, visual: DenseViT) -> None:
        tokens, grid = visual.embed(self.images(visual, (2, 3)))
        whole = visual.run(tokens, grid)
        split = visual.run(visual.run(tokens, grid, 0, 1), grid, 1)
        assert torch.equal(whole, split)
        assert torch.equal(whole, visual.run_dense(tokens, grid, 0, 'plain'))

    def test_other_blocks(self, visual: DenseViT) -> None:
        tokens, grid = visual.embed(self.images(visual, (2, 3)))
        copies = nn.ModuleList(copy.deepcopy(block) for block in visual.blocks[1:])
        same = visual.run_dense(tokens, grid, 1, 'value', blocks=copies)
        assert torch.equal(same, visual.run_dense(tokens, grid, 1, 'value'))
        randomise(copies)
        other = visual.run_dense(tokens, grid, 1, 'value', blocks=copies)
        assert not torch.allclose(same, other, atol=1e-2)

    def test_size_that_is_no_multiple(self, visual: DenseViT) -> None:
        patch = visual.patch_size
        images = torch.randn(1, 3, 2 * patch + 1, 3 * patch)
        with pytest.raises(ValueError, match=f'{2 * patch} x {3 * patch} and {3 * patch} x'):
            visual.dense(images)

    def test_freeze(self, visual: DenseViT) -> None:
        visual.freeze(2)
        trained = {id(p) for block in visual.blocks[-2:] for p in block.parameters()}
        for name, parameter in visual.named_parameters():
            assert parameter.requires_grad == (id(parameter) in trained), name
        assert not any(p.requires_grad for p in visual.freeze().parameters())
        with pytest.raises(ValueError, match='0 to 3'):
            visual.freeze(4)

    def test_state_dict_keys(self, visual: DenseViT, plain: nn.Module) -> None:
        assert set(visual.state_dict()) == {f'model.{key}' for key in plain.state_dict()}

    def test_checkpointing_changes_nothing(self, visual: DenseViT) -> None:
        images = self.images(visual, (2, 3))
        grads = []
        for with_cp in (False, True):
            visual.with_cp = with_cp
            visual.zero_grad()
            visual.dense(images).square().mean().backward()
            grads.append(
                [p.grad.clone() for p in visual.blocks[0].parameters() if p.grad is not None]
            )
        assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))

    def test_training_after_inference_mode(self, visual: DenseViT) -> None:
        images = self.images(visual, (2, 3))
        with torch.inference_mode():
            visual.dense(images, 'plain')
        visual.dense(images, 'plain').square().sum().backward()
        assert all(p.grad is not None for p in visual.blocks[0].parameters())


class TestOpenCLIP(DenseViTTester):
    family = 'open_clip'
    activation = staticmethod(F.gelu)

    def build(self, configs: dict[str, Any]) -> DenseViT:
        return build_clip(configs[self.family], text=False).visual

    def library(self, configs: dict[str, Any]) -> nn.Module:
        return CustomTextCLIP(**configs[self.family]).visual

    def resized(self, library: nn.Module, size: tuple[int, int]) -> nn.Module:
        state = {f'visual.{key}': value for key, value in library.state_dict().items()}
        library.grid_size = (size[0] // 16, size[1] // 16)
        holder = nn.Module()
        holder.visual = library
        resize_pos_embed(state, holder)
        library.positional_embedding = nn.Parameter(state['visual.positional_embedding'])
        return library

    def tokens(self, library: nn.Module, images: Tensor) -> Tensor:
        out = library.forward_intermediates(
            images,
            indices=1,
            normalize_intermediates=True,
            output_fmt='NLC',
            output_extra_tokens=True,
        )
        prefix, patches = out['image_intermediates_prefix'][0], out['image_intermediates'][0]
        return torch.cat((prefix, patches), dim=1)

    def value_block(self, block: nn.Module, x: Tensor) -> Tensor:
        attn, mlp = block.attn, block.mlp
        x = x + attn.out_proj(fused_value(block, block.ln_1(x), 'in_proj_'))
        return x + mlp.c_proj(self.activation(mlp.c_fc(block.ln_2(x))))

    def projected(self, library: nn.Module, tokens: Tensor) -> Tensor:
        return library.ln_post(tokens[:, 0]) @ library.proj


class TestQuickGELU(TestOpenCLIP):
    family = 'quick_gelu'
    activation = staticmethod(lambda x: x * torch.sigmoid(1.702 * x))


class TestEVA02CLIP(DenseViTTester):
    family = 'eva02'

    def build(self, configs: dict[str, Any]) -> DenseViT:
        return build_clip(configs[self.family], text=False).visual

    def library(self, configs: dict[str, Any]) -> nn.Module:
        return CustomTextCLIP(**configs[self.family]).visual

    def value_block(self, block: nn.Module, x: Tensor) -> Tensor:
        attn, mlp = block.attn, block.mlp
        assert attn.q_proj.bias is not None
        assert attn.k_proj.bias is None
        y = block.norm1(x)
        value = y @ attn.v_proj.weight.T + attn.v_proj.bias
        x = x + attn.proj(
            F.layer_norm(value, value.shape[-1:], attn.norm.weight, attn.norm.bias, attn.norm.eps)
        )
        y = block.norm2(x)
        return x + mlp.fc2(mlp.norm(F.silu(mlp.fc1_g(y)) * mlp.fc1_x(y)))


class TestSigLIP(TestEVA02CLIP):
    family = 'siglip'

    def value_block(self, block: nn.Module, x: Tensor) -> Tensor:
        x = x + block.attn.proj(fused_value(block, block.norm1(x), 'qkv.'))
        return x + block.mlp.fc2(block.mlp.act(block.mlp.fc1(block.norm2(x))))


class TestDINOv2(DenseViTTester):
    name = 'vit_small_patch14_dinov2'
    kwargs = dict(TIMM_TOY, img_size=56)

    def build(self, configs: dict[str, Any]) -> DenseViT:
        return build_clip(f'timm/{self.name}', model_kwargs=self.kwargs).visual

    def library(self, configs: dict[str, Any]) -> nn.Module:
        return timm.create_model(self.name, num_classes=0, **self.kwargs)

    def value_block(self, block: nn.Module, x: Tensor) -> Tensor:
        x = x + block.ls1.gamma * block.attn.proj(fused_value(block, block.norm1(x), 'qkv.'))
        return x + block.ls2.gamma * block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))

    def projected(self, library: nn.Module, tokens: Tensor) -> Tensor:
        return library.norm(tokens[:, 0])


class TestDINOv2Registers(TestDINOv2):
    name = 'vit_small_patch14_reg4_dinov2'


class TestDINOv3(TestDINOv2):
    name = 'vit_small_patch16_dinov3'
    kwargs = dict(TIMM_TOY, img_size=64)

    def value_block(self, block: nn.Module, x: Tensor) -> Tensor:
        x = x + block.gamma_1 * block.attn.proj(fused_value(block, block.norm1(x), 'qkv.'))
        return x + block.gamma_2 * block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))


class TestDINOv3Bias(TestDINOv3):
    """EVA's fused projection with separate q and v biases."""

    name = 'vit_small_patch16_dinov3_qkvb'

    def value_block(self, block: nn.Module, x: Tensor) -> Tensor:
        value = fused_value(block, block.norm1(x), 'qkv.') + block.attn.v_bias
        x = x + block.gamma_1 * block.attn.proj(value)
        return x + block.gamma_2 * block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))


class TestRopeMixed(TestDINOv2):
    """Learnt RoPE, one per block, no class token slot in the position embedding."""

    name = 'vit_small_patch16_rope_mixed_ape_224'
    kwargs = dict(TIMM_TOY, img_size=64, num_heads=2)

    def value_block(self, block: nn.Module, x: Tensor) -> Tensor:
        x = x + block.gamma_1 * block.attn.proj(fused_value(block, block.norm1(x), 'qkv.'))
        return x + block.gamma_2 * block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    [
        'ViT-B-16',
        'EVA02-B-16',
        'ViT-B-16-SigLIP',
        'timm/vit_small_patch14_dinov2',
        'timm/vit_small_patch14_reg4_dinov2',
        'timm/vit_small_patch16_dinov3',
    ],
)
def test_real_size_equals_library(name: str) -> None:
    visual = build_clip(name, text=False).visual.eval()
    if name.startswith('timm/'):
        library = timm.create_model(name.removeprefix('timm/'), num_classes=0)
    else:
        library = open_clip.create_model(name, load_weights=False).visual
    library.load_state_dict(visual.model.state_dict(), strict=True)
    library.eval()
    images = torch.randn(1, 3, *visual.native_size)
    ours, theirs = visual.image_embedding(images), library(images)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    grads = {key: p.grad for key, p in visual.model.named_parameters()}
    for key, parameter in library.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(grads[key], parameter.grad, atol=1e-4, rtol=1e-4)
