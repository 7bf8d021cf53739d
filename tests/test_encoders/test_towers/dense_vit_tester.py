"""The tester that every family of encoders goes through, against the untouched library."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refineclip.encoders.towers import dense_modes
from refineclip.encoders.towers.dense_vit import DenseViT


def randomise(model: nn.Module) -> None:
    """Move every parameter away from its initial value: zeros and tiny scales would hide errors."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)


def own_modes() -> list[str]:
    """Modes of the package; projects that other tests import register theirs as well."""
    names = dense_modes.list_dense_modes()
    return [n for n in names if dense_modes.get_dense_mode(n).__module__ == dense_modes.__name__]


class DenseViTTester:
    """What every family must satisfy; a family says how to build it, with and without us."""

    # Pairs with equal counts: a position cache or a resize by count alone would confuse them.
    grids = ((1, 1), (3, 5), (5, 3), (2, 8), (8, 2))

    def build(self, configs: dict[str, Any]) -> DenseViT:
        raise NotImplementedError

    def library(self, configs: dict[str, Any]) -> nn.Module:
        """Build the vision tower by the library alone."""
        raise NotImplementedError

    def resize(self, position: Tensor, grid: tuple[int, int]) -> Tensor:
        """Resize a position map ``(1, W, h, w)`` as the family's published code does."""
        return F.interpolate(position, grid, mode='bicubic', align_corners=False)

    def resized(self, library: nn.Module, size: tuple[int, int]) -> nn.Module:
        """Let the library move its tower to another image size, and the family its positions."""
        trunk = getattr(library, 'trunk', library)
        position, native = trunk.pos_embed, trunk.patch_embed.grid_size
        library.set_input_size(size)
        if position is not None and trunk.patch_embed.grid_size != native:
            count = position.shape[1] - native[0] * native[1]
            old = position[:, count:].transpose(1, 2).unflatten(2, native)
            new = self.resize(old, trunk.patch_embed.grid_size).flatten(2).transpose(1, 2)
            trunk.pos_embed = nn.Parameter(torch.cat((position[:, :count], new), dim=1))
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
        for mode in own_modes():
            if mode == 'value-cls' and not visual.num_class_tokens:
                with pytest.raises(ValueError, match=r"on the class token.*use 'value'"):
                    visual.dense(images, mode)
                continue
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
