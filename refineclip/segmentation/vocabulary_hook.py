"""Give a model the class names of the data set that it is about to see."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class VocabularyHook(Hook):
    """Call ``model.set_vocabulary`` with the data set's classes before training, val and test.

    Training goes on with the training classes after each validation, so a model may train on one
    vocabulary and be validated on another. Classes are told apart by their position, so equal
    names are classes of their own (the full ADE20K has nine such names).

    Raises:
        TypeError: If the model's vocabulary cannot be set.
        ValueError: If the data set names no classes.
    """

    priority = 'HIGH'

    def __init__(self) -> None:
        self._is_training = False

    def before_train(self, runner: Runner) -> None:
        """Take the training classes."""
        self._is_training = True
        self._set(runner, runner.train_dataloader)

    def after_train(self, runner: Runner) -> None:
        """Note that no training follows."""
        self._is_training = False

    def before_val(self, runner: Runner) -> None:
        """Take the validation classes."""
        self._set(runner, runner.val_dataloader)

    def after_val(self, runner: Runner) -> None:
        """Go back to the training classes."""
        if self._is_training:
            self._set(runner, runner.train_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Take the test classes."""
        self._set(runner, runner.test_dataloader)

    def _set(self, runner: Runner, dataloader: Any) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, 'set_vocabulary'):
            raise TypeError(
                'VocabularyHook: expected a model with set_vocabulary (CATSeg, TextSegmentor), got '
                f'{type(model).__name__}; remove the hook'
            )
        dataset = dataloader.dataset
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        if not classes:
            raise ValueError(
                'VocabularyHook: expected a data set whose metainfo names its classes, got '
                f'{type(dataset).__name__} without; set metainfo=dict(classes=...) in its config'
            )
        model.set_vocabulary(classes, distinct=False)
