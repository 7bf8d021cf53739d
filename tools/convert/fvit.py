"""Convert a published F-ViT checkpoint (mmdet 2.28): ``python tools/convert/fvit.py IN OUT``.

The config that the weights belong to is recognised by their keys and shapes, or given with
``--config``. A table says what went where; a tensor of either side without a counterpart ends the
conversion with exit status 1, and nothing is written.

The file holds its class embeddings too. ``--text-embeddings FILE.safetensors`` writes them, with
their names, for ``classifier.text.text_embeddings``: then no text tower is needed.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import Tensor

    State = dict[str, Tensor]

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'detection' / 'fvit'
HEAD = 'roi_head.bbox_head.'
TOWER = 'backbone.visual.'
TEXT = f'{HEAD}all_embeddings'
BACKGROUND = f'{HEAD}bg_embedding'
# Published name -> ours. The first that matches is taken.
RENAMES = (
    (r'backbone\.interpolate1\.(\d+)\.', r'neck.0.levels.0.\1.'),
    (r'backbone\.interpolate2\.0\.', 'neck.0.levels.1.'),
    (r'neck\.', 'neck.1.'),
    (re.escape(f'{HEAD}cls_fcs.0.'), f'{HEAD}fc_cls.projection.'),
    (re.escape(f'{HEAD}detect_temperature'), f'{HEAD}fc_cls.temperature'),
    (re.escape(BACKGROUND), f'{HEAD}fc_cls.background'),
)
# Left out, and why.
LEFT_OUT = (
    (re.escape(TEXT), 'class embeddings, which no checkpoint of ours holds'),
    (re.escape(f'{HEAD}fc_cls.'), "mmdet's classifier, which F-ViT never calls"),
    (re.escape(f'{HEAD}loss_cls.'), 'class weights, which the config holds'),
)
# Width of the tower -> its name in the stems of the configs.
TOWERS = {768: 'vit-b16', 1024: 'vit-l14-336'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; heavy libraries are imported after it, so errors come at once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', metavar='IN', type=Path, help='published checkpoint')
    parser.add_argument('out', metavar='OUT', type=Path, help='checkpoint to write (.pth)')
    parser.add_argument('--config', type=Path, help='config to convert for (default: recognised)')
    parser.add_argument(
        '--text-embeddings', type=Path, metavar='FILE', help='also write the class embeddings'
    )
    args = parser.parse_args(argv)
    for path in (args.source, args.config):
        if path is not None and not path.is_file():
            parser.error(f'expected a file, got {path}, which does not exist')
    if args.text_embeddings is not None and args.text_embeddings.suffix != '.safetensors':
        parser.error(f'expected a .safetensors file, got {args.text_embeddings}')
    return args


def find_config(state: State) -> Path:
    """Recognise the config that a checkpoint was trained with.

    Raises:
        ValueError: If the keys are not F-ViT's.
    """
    if not any(key.startswith(TOWER) for key in state) or f'{HEAD}fc_reg.weight' not in state:
        raise ValueError(
            f'expected an F-ViT checkpoint with keys {TOWER}* and {HEAD}*, got keys like '
            f'{list(state)[:3]}'
        )
    family = 'eva02' if f'{TOWER}patch_embed.proj.weight' in state else 'openai'
    patches = state.get(f'{TOWER}patch_embed.proj.weight', state.get(f'{TOWER}conv1.weight'))
    width = None if patches is None else patches.shape[0]
    masks = any(key.startswith('roi_head.mask_head.') for key in state)
    pattern = f'*_{family}-{TOWERS.get(width)}_8xb8-*_{"ov-lvis" if masks else "ov-coco"}-*.py'
    found = sorted(CONFIGS.glob(pattern))
    if len(found) != 1:
        raise ValueError(
            f'expected one config {pattern} in {CONFIGS}, found {len(found)} (tower {family}, '
            f'width {width}); give --config'
        )
    return found[0]


def build_model(config: Config, state: State) -> Any:
    """Build the detector of a config without any weights of its own."""
    from mmengine.registry import MODELS, DefaultScope

    model = copy.deepcopy(config.model)
    model.backbone.update(pretrained=None, init_cfg=None)
    classifier = model.roi_head.bbox_head.classifier
    text = state[TEXT].T if TEXT in state else None
    if text is not None:
        classifier.learn_background = BACKGROUND in state
        rows = text[:-1] if classifier.learn_background else text
        classifier.text = dict(text_embeddings=rows.float())
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmdet')):
        return MODELS.build(model)


def rename(key: str) -> str:
    """Our name of a published key outside of the tower."""
    for pattern, ours in RENAMES:
        if re.match(pattern, key):
            return re.sub(pattern, ours, key, count=1)
    return key


def convert_tower(state: State, model: Any) -> State:
    """The image tower's tensors under our names.

    Raises:
        ValueError: If keys or shapes are not those of the tower.
    """
    from refineclip.encoders.dense_clip import DenseCLIP
    from refineclip.encoders.weights.loading import load_weights

    visual = model.backbone.visual
    part = {k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith(TOWER)}
    # It knows the towers' layouts, resizes position embeddings, and refuses what does not fit.
    load_weights(DenseCLIP(visual), 'the published checkpoint', part)
    return {f'{TOWER}{key}': tensor for key, tensor in visual.state_dict().items()}


def convert_rest(state: State, model: Any) -> tuple[State, list[str]]:
    """The tensors outside of the tower under our names, and the holes on either side."""
    expected = {k: v for k, v in model.state_dict().items() if not k.startswith('backbone.')}
    converted: State = {}
    moves: Counter[tuple[str, str]] = Counter()
    holes = []
    for key, tensor in state.items():
        if key.startswith(TOWER):
            continue
        reason = next((why for pattern, why in LEFT_OUT if re.match(pattern, key)), None)
        if reason is not None:
            moves[group(key), f'left out: {reason}'] += 1
            continue
        ours = rename(key)
        if key == BACKGROUND:
            tensor = tensor.T
        if ours not in expected:
            holes.append(f'no place for {key} {tuple(tensor.shape)}')
        elif tensor.shape != expected[ours].shape:
            holes.append(
                f'{key} has shape {tuple(tensor.shape)}, expected {tuple(expected[ours].shape)} '
                f'of {ours}'
            )
        else:
            converted[ours] = tensor.to(expected[ours].dtype)
            moves[group(key), f'-> {group(ours)}'] += 1
    for (old, new), number in moves.items():
        sys.stdout.write(f'{number:5d}  {old} {new}\n')
    holes += [f'nothing for {key}' for key in expected if rename_is_missing(key, state, converted)]
    return converted, holes


def rename_is_missing(ours: str, state: State, converted: State) -> bool:
    """Tell whether no published tensor, not even one of another shape, goes to one of ours."""
    return ours not in converted and all(rename(key) != ours for key in state)


def group(key: str) -> str:
    """A key with its numbers as stars and without its last part."""
    return re.sub(r'\.\d+(?=\.|$)', '.*', key.rpartition('.')[0])


def write_text(path: Path, embeddings: Tensor, names: tuple[str, ...]) -> None:
    """Write the class embeddings (D, C + 1) of the checkpoint, the background last."""
    from refineclip.encoders.text.embedder import save_text_embeddings

    save_text_embeddings(path, embeddings.T.float(), (*names, 'background'))
    sys.stdout.write(f'{path}: embeddings of {len(names)} classes and the background\n')


def test_command(config: Path, out: Path, text: Path | None, state: State) -> str:
    """The command that tests the detector without a download of the tower's original weights."""
    options = ['model.backbone.pretrained=None']
    if f'{TOWER}conv1.weight' in state:
        # Without OpenAI's tag the library would not know their activation.
        size = 'B-16' if len(state[f'{TOWER}conv1.weight']) == 768 else 'L-14-336'
        options.append(f'model.backbone.model=ViT-{size}-quickgelu')
    if text is not None:
        options.append(f'model.roi_head.bbox_head.classifier.text.text_embeddings={text}')
    return f'python tools/test.py {config} {out} --cfg-options {" ".join(options)}'


def main(argv: list[str] | None = None) -> int:
    """Convert."""
    args = parse_args(argv)
    import torch
    from mmengine.config import Config

    from refineclip.encoders.weights.checkpoint_file import read_checkpoint

    try:
        state = read_checkpoint(args.source)
        path = args.config or find_config(state)
        model = build_model(Config.fromfile(path), state)
        converted, holes = convert_rest(state, model)
        tower = convert_tower(state, model)
    except ValueError as error:
        sys.stderr.write(f'{args.source}: {error}\n')
        return 1
    sys.stdout.write(f'{len(tower):5d}  {TOWER}* -> {TOWER}*\n')
    if holes:
        lines = ''.join(f'  {hole}\n' for hole in holes)
        sys.stderr.write(f'{len(holes)} holes, for {path}:\n{lines}nothing was written\n')
        return 1
    names = model.vocabulary
    if args.text_embeddings is not None and TEXT in state:
        write_text(args.text_embeddings, state[TEXT], names)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    meta = dict(dataset_meta=dict(classes=names))
    torch.save(dict(meta=meta, state_dict={**tower, **converted}), args.out)
    sys.stdout.write(f'{args.out}: {len(tower) + len(converted)} tensors for {path}\n')
    sys.stdout.write(
        f'test it with\n  {test_command(path, args.out, args.text_embeddings, state)}\n'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
