"""Every family of encoders at toy size, through the shared tester."""

from __future__ import annotations

from typing import Any, ClassVar

import timm
import torch
import torch.nn.functional as F
from open_clip.model import CustomTextCLIP
from torch import Tensor, nn

from refineclip.encoders.build import build_clip
from refineclip.encoders.towers.dense_vit import DenseViT

from .dense_vit_tester import DenseViTTester

TIMM_TOY = dict(embed_dim=32, depth=3, num_heads=2)


def fused_value(block: nn.Module, x: Tensor, fused: str) -> Tensor:
    """Last third of a fused q-k-v projection, by hand."""
    state = block.state_dict()
    third = x.shape[-1]
    bias = state.get(f'attn.{fused}bias')
    bias = None if bias is None else bias[2 * third :]
    return F.linear(x, state[f'attn.{fused}weight'][2 * third :], bias)


class TestOpenCLIP(DenseViTTester):
    family = 'open_clip'
    activation = staticmethod(F.gelu)

    def build(self, configs: dict[str, Any]) -> DenseViT:
        return build_clip(configs[self.family], text=False).visual

    def library(self, configs: dict[str, Any]) -> nn.Module:
        return CustomTextCLIP(**configs[self.family]).visual

    def resized(self, library: nn.Module, size: tuple[int, int]) -> nn.Module:
        # open_clip's own resize leaves the embedding alone when only the token count is equal.
        prefix, old = library.positional_embedding.split([1, 16])
        grid = (size[0] // 16, size[1] // 16)
        new = self.resize(old.T.reshape(1, 32, 4, 4), grid).flatten(2)[0].T
        library.positional_embedding = nn.Parameter(torch.cat((prefix, new)))
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

    def resize(self, position: Tensor, grid: tuple[int, int]) -> Tensor:
        return F.interpolate(position, grid, mode='bicubic', antialias=True)

    def value_block(self, block: nn.Module, x: Tensor) -> Tensor:
        x = x + block.attn.proj(fused_value(block, block.norm1(x), 'qkv.'))
        return x + block.mlp.fc2(block.mlp.act(block.mlp.fc1(block.norm2(x))))


class TestDINOv2(DenseViTTester):
    name = 'vit_small_patch14_dinov2'
    kwargs: ClassVar[dict[str, Any]] = dict(TIMM_TOY, img_size=56)

    def build(self, configs: dict[str, Any]) -> DenseViT:
        return build_clip(f'timm/{self.name}', model_kwargs=self.kwargs).visual

    def library(self, configs: dict[str, Any]) -> nn.Module:
        return timm.create_model(self.name, num_classes=0, **self.kwargs)

    def value_block(self, block: nn.Module, x: Tensor) -> Tensor:
        x = x + block.ls1.gamma * block.attn.proj(fused_value(block, block.norm1(x), 'qkv.'))
        return x + block.ls2.gamma * block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))

    def projected(self, library: nn.Module, tokens: Tensor) -> Tensor:
        return library.norm(tokens[:, 0])

    def resize(self, position: Tensor, grid: tuple[int, int]) -> Tensor:
        return F.interpolate(position, grid, mode='bicubic', antialias=True)


class TestDINOv2Registers(TestDINOv2):
    name = 'vit_small_patch14_reg4_dinov2'


class TestDINOv3(TestDINOv2):
    name = 'vit_small_patch16_dinov3'
    kwargs: ClassVar[dict[str, Any]] = dict(TIMM_TOY, img_size=64)

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


class TestRopeMixed(TestDINOv3):
    """Learnt RoPE, one per block, no class token slot in the position embedding."""

    name = 'vit_small_patch16_rope_mixed_ape_224'

    def resize(self, position: Tensor, grid: tuple[int, int]) -> Tensor:
        return F.interpolate(position, grid, mode='bicubic', antialias=True)


class TestPECore(TestSigLIP):
    """Absolute positions and RoPE, attention pool after the norm, projection."""

    family = 'pe_core'

    def resize(self, position: Tensor, grid: tuple[int, int]) -> Tensor:
        return F.interpolate(position, grid, mode='bilinear', align_corners=False)

    def resized(self, library: nn.Module, size: tuple[int, int]) -> nn.Module:
        trunk = getattr(library, 'trunk', library)
        trunk.rope.ref_feat_shape = None  # the published RoPE counts on at every size
        return super().resized(library, size)


class TestPESpatial(TestPECore):
    """No norm at the end, no pool."""

    name = 'vit_pe_spatial_tiny_patch16_512'
    kwargs: ClassVar[dict[str, Any]] = dict(TIMM_TOY, img_size=64, ref_feat_shape=(4, 4))
    build = TestDINOv2.build
    library = TestDINOv2.library
    projected = TestDINOv2.projected

    def test_rope_counts_on(self) -> None:
        """A tower built for another size than it was trained at has the same RoPE."""
        small = dict(self.kwargs, ref_feat_shape=(2, 2))
        built = [self.kwargs, small, dict(small, dynamic_img_size=True)]
        towers = [build_clip(f'timm/{self.name}', model_kwargs=kw).visual for kw in built]
        for grid in ((4, 4), (3, 5)):
            trained, fixed, dynamic = (tower._rope(0, grid) for tower in towers)
            assert torch.equal(trained, fixed)
            assert torch.equal(trained, dynamic)


class TestMobileCLIP2B(TestSigLIP):
    """Convolutional stem without overlap."""

    family = 'mobileclip_b'

    def resize(self, position: Tensor, grid: tuple[int, int]) -> Tensor:
        return F.interpolate(position, grid, mode='bicubic', align_corners=False)

    def test_frozen_stem_keeps_its_statistics(self, visual: DenseViT) -> None:
        norms = [m for m in visual.modules() if isinstance(m, nn.BatchNorm2d)]
        before = [norm.running_mean.clone() for norm in norms]
        visual.freeze(2).train()(self.images(visual))
        assert bool(norms) == (self.family == 'mobileclip_b')  # the L has no stem
        assert all(torch.equal(m.running_mean, b) for m, b in zip(norms, before, strict=True))


class TestMobileCLIP2L(TestSigLIP):
    """OpenCLIP's ViT built by timm."""

    family = 'mobileclip_l'
    resize = TestMobileCLIP2B.resize


class TestRADIO(TestDINOv2):
    """One class token per teacher, registers, no norm at the end."""

    name = 'vit_base_patch16_radio_v3'
    kwargs: ClassVar[dict[str, Any]] = dict(TIMM_TOY, img_size=64)
    align_corners = True

    def resize(self, position: Tensor, grid: tuple[int, int]) -> Tensor:
        side, corners = max(grid), self.align_corners
        square = F.interpolate(position, (side, side), mode='bilinear', align_corners=corners)
        return square[..., : grid[0], : grid[1]]


class TestRADIOv4(TestRADIO):
    name = 'vit_so400m_patch16_radio_v4'
    align_corners = False

    def value_block(self, block: nn.Module, x: Tensor) -> Tensor:
        x = x + block.attn.proj(fused_value(block, block.norm1(x), 'qkv.'))
        return x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))


class TestTIPSv2(TestDINOv2Registers):
    """Two class tokens: timm calls the second a register."""

    name = 'vit_base_patch14_reg1_tipsv2'

    def resize(self, position: Tensor, grid: tuple[int, int]) -> Tensor:
        return F.interpolate(position, grid, mode='bilinear', antialias=True)
