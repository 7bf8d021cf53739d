r"""Tensors to compare with the released CAT-Seg: ``python tools/convert/catseg_sample.py OUT``.

OUT gets random weights of the released aggregator under its own names, inputs, and the logits that
this package computes from them. In a checkout of github.com/cvlab-kaist/CAT-Seg:

    import torch
    from cat_seg.modeling.transformer.model import Aggregator

    sample = torch.load('OUT')
    original = Aggregator(num_layers=2, pooling_size=(1, 1)).eval()
    original.load_state_dict(sample['state'], strict=False)  # its masks are no weights
    with torch.no_grad():
        logits = original(*sample['inputs'])
    print((logits - sample['logits']).abs().max())
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catseg import OURS, convert

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = 'sem_seg_head.predictor.transformer.'
GRID = 24  # tokens along a side
# Width of the joint embedding, of the cost volume, and of projected guidance.
TEXT, DIMS, GUIDANCE = 512, 128, 128


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released aggregator's weights; biases are filled in."""
    found: dict[str, tuple[int, ...]] = {
        'conv1': (DIMS, 1, 7, 7),
        'guidance_projection.0': (GUIDANCE, TEXT, 3, 3),
        'text_guidance_projection.0': (GUIDANCE, TEXT),
        'decoder_guidance_projection.0.0': (32, 256, 3, 3),
        'decoder_guidance_projection.1.0': (16, 128, 3, 3),
        'head': (1, 32, 3, 3),
    }
    attention = dict.fromkeys('qk', (DIMS, DIMS + GUIDANCE)) | {'v': (DIMS, DIMS)}
    for layer in (f'layers.{i}' for i in range(2)):
        found[f'{layer}.swin_block.guidance_norm'] = (GUIDANCE,)
        for block in (f'{layer}.swin_block.block_{i}' for i in (1, 2)):
            found |= {f'{block}.attn.{name}': shape for name, shape in attention.items()}
            found |= {f'{block}.attn.proj': (DIMS, DIMS)}
            found |= {f'{block}.mlp.fc1': (4 * DIMS, DIMS), f'{block}.mlp.fc2': (DIMS, 4 * DIMS)}
            found |= {f'{block}.norm{i}': (DIMS,) for i in (1, 2)}
        block = f'{layer}.attention'
        found |= {f'{block}.attention.{name}': shape for name, shape in attention.items()}
        found |= {f'{block}.MLP.0': (4 * DIMS, DIMS), f'{block}.MLP.2': (DIMS, 4 * DIMS)}
        found |= {f'{block}.norm{i}': (DIMS,) for i in (1, 2)}
    for i, (before, after, guided) in enumerate(((DIMS, 64, 32), (64, 32, 16)), start=1):
        found[f'decoder{i}.up'] = (before, before - guided, 2, 2)
        convolutions = {0: (after, before, 3, 3), 1: (after,), 3: (after, after, 3, 3), 4: (after,)}
        found |= {
            f'decoder{i}.conv.double_conv.{place}': shape for place, shape in convolutions.items()
        }
    return found


def random_state(generator: Any) -> dict[str, Tensor]:
    """Random weights by their released names; nothing is zero, so that nothing is hidden."""
    import torch

    def noise(*shape: int, scale: float = 0.2) -> Tensor:
        return scale * torch.randn(shape, generator=generator)

    state = {}
    for name, shape in shapes().items():
        if len(shape) == 1:  # a norm
            state[f'{name}.weight'] = 1 + noise(*shape)
        else:
            fan_in = torch.Size(shape[1:]).numel()
            state[f'{name}.weight'] = noise(*shape, scale=fan_in**-0.5)
        if '.up' in name:
            state[f'{name}.bias'] = noise(shape[1])
        elif '.double_conv.0' not in name and '.double_conv.3' not in name:
            state[f'{name}.bias'] = noise(shape[0])
    for i in range(2):
        state[f'layers.{i}.attention.padding_tokens'] = noise(1, 1, DIMS)
        state[f'layers.{i}.attention.padding_guidance'] = noise(1, 1, GUIDANCE)
    return state


def build_sample(num_classes: int, seed: int) -> dict[str, Any]:
    """Weights, inputs (image, text, guidance as the release takes them) and our logits."""
    import torch
    import torch.nn.functional as F

    from refineclip.segmentation.cat_seg.cost_aggregation import CostAggregator, place_classes

    generator = torch.Generator().manual_seed(seed)
    state = random_state(generator)
    image = torch.randn(1, TEXT, GRID, GRID, generator=generator)
    text = F.normalize(torch.randn(num_classes, TEXT, generator=generator), dim=-1)
    guidance = [
        torch.randn(1, channels, scale * GRID, scale * GRID, generator=generator)
        for channels, scale in ((256, 2), (128, 4))
    ]
    aggregator = CostAggregator(text_dims=TEXT).eval()
    ours, _, _ = convert({PREFIX + name: tensor for name, tensor in state.items()})
    aggregator.load_state_dict({name.removeprefix(OURS): one for name, one in ours.items()})
    with torch.no_grad():
        logits = place_classes(*aggregator(image, text, guidance), num_classes)
    inputs = (image, text[None, :, None], [image, *guidance])
    return dict(state=state, inputs=inputs, logits=logits)


def main(argv: list[str] | None = None) -> int:
    """Write the sample."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, metavar='OUT', help='file to write (.pth)')
    parser.add_argument('--classes', type=int, default=20, help='more than 256 keep 256')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    if args.classes < 1:
        parser.error(f'--classes: expected 1 or more, got {args.classes}')
    import torch

    torch.save(build_sample(args.classes, args.seed), args.out)
    print(f'{args.out}: weights, inputs and logits of {args.classes} classes')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
