"""Checkpoints of an encoder alone, read by a segmentor that owns one as its backbone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_OWNERS = ('backbone.', 'student.', 'encoder.', '')


def rename_encoder_keys(state: dict[str, Tensor], backbone: Mapping[str, Tensor]) -> None:
    """Rename an encoder's keys to ``backbone.*``, in place.

    ``refined_*.pth`` holds ``visual.*``, a checkpoint of stage 2 ``student.visual.*`` beside its
    teacher, whose keys are dropped, and one of stage 1 ``encoder.visual.*`` with a Refiner.

    Args:
        state: The checkpoint.
        backbone: State of the backbone that it must fill.

    Raises:
        ValueError: If the checkpoint holds no encoder, or another one. Loaders of mmengine only
            warn of that, and the number that followed would be that of other weights.
    """
    owner = next(
        (one for one in _OWNERS if any(key.startswith(f'{one}visual.') for key in state)), None
    )
    if owner is None:
        raise ValueError(
            "expected a checkpoint with an encoder ('visual.*', 'student.visual.*' or "
            f"'backbone.visual.*'), got keys like {list(state)[:3]}; weights of a library belong "
            'into model.backbone.pretrained'
        )
    found = {key[len(owner) :]: value for key, value in state.items() if key.startswith(owner)}
    wrong = [
        key
        for key, value in backbone.items()
        if key not in found or found[key].shape != value.shape
    ]
    surplus = [key for key in found if key.startswith('refiner.') and key not in backbone]
    if wrong or surplus:
        raise ValueError(
            f'expected a checkpoint that fills the backbone, got one that lacks or shapes '
            f'differently {wrong[:3]} and has besides {surplus[:3]}; set model.backbone.model and '
            'model.backbone.refiner as they were trained'
        )
    state.clear()
    state.update({f'backbone.{key}': found[key] for key in backbone})
