"""Go on only from a training checkpoint of the same model and optimizer."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

# What may change between a stop and going on: how it is computed, and where files lie.
_FREE = {
    *('pretrained', 'init_cfg', 'checkpoint', 'cache_dir', 'cache_features', 'test_cfg'),
    *('with_cp', 'attention_backend', 'compile_blocks', 'maps_per_pass', 'window_batch'),
}
_UNKNOWN = object()


@HOOKS.register_module()
class ResumeCheckHook(Hook):
    """Refuse to resume from weights alone, or from a run of another model or optimizer.

    Tensors that do not fit are refused by the models themselves; this finds what leaves the tensors
    as they are, another method or loss, say. ``tools/train.py`` registers it for ``--resume``.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check a checkpoint before anything of it is used.

        Raises:
            ValueError: Says what differs, and what to do.
        """
        check_resumable(checkpoint, runner.cfg)


def check_resumable(checkpoint: Mapping[str, Any], cfg: Config) -> None:
    """Raise a ValueError if a run cannot go on from a checkpoint.

    Args:
        checkpoint: Content of the file.
        cfg: Config of the run that is to go on.
    """
    lacking = [key for key in ('meta', 'state_dict', 'optimizer') if key not in checkpoint]
    if lacking:
        raise ValueError(
            f'--resume: expected a training checkpoint (epoch_*.pth, iter_*.pth), got a file '
            f'without {lacking}; to start a new run from weights of this model set load_from'
        )
    stored, own = read_config(str(checkpoint['meta'].get('cfg', ''))), cfg.to_dict()
    differences = [
        f'{key}: {old!r} there, {new!r} here'
        for name in ('model', 'optim_wrapper.optimizer.type')
        for key, old, new in _differences(name, _get(stored, name), _get(own, name))
    ]
    if differences:
        raise ValueError(
            '--resume: expected a checkpoint of this config, got one of another ('
            f'{"; ".join(differences[:4])}); go on with the config that is beside the checkpoint, '
            'or start a new run from its weights with load_from'
        )


def read_config(text: str) -> dict[str, Any]:
    """Read the assignments of a config that mmengine wrote, without running it.

    Args:
        text: ``Config.pretty_text``.

    Returns:
        Values by name; what is no literal is left out.
    """
    try:
        statements = ast.parse(text).body
    except SyntaxError:
        return {}
    return {
        statement.targets[0].id: _literal(statement.value)
        for statement in statements
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }


def _literal(node: ast.AST) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return {word.arg: _literal(word.value) for word in node.keywords}
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_UNKNOWN if key is None else _literal(key) for key in node.keys]
        return dict(zip(keys, map(_literal, node.values), strict=True))
    try:
        return ast.literal_eval(node)
    except ValueError:
        return _UNKNOWN


def _get(cfg: Mapping[str, Any], name: str) -> Any:
    value: Any = cfg
    for part in name.split('.'):
        value = value.get(part, _UNKNOWN) if isinstance(value, Mapping) else _UNKNOWN
    return value


def _differences(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield key, old and new value wherever two configs differ in what decides the training."""
    if old is _UNKNOWN or new is _UNKNOWN:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if old.get('type') != new.get('type'):  # the keys of another class say nothing
            yield f'{name}.type', old.get('type'), new.get('type')
            return
        for key in dict.fromkeys((*old, *new)):
            if key not in _FREE:
                yield from _differences(f'{name}.{key}', old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list | tuple) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f'{name}.{index}', one, other)
    elif isinstance(old, str) and isinstance(new, str):
        if PurePath(old).name != PurePath(new).name:  # a file may have moved
            yield name, old, new
    elif old != new:
        yield name, old, new
