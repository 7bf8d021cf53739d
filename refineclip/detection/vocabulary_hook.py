"""The data set's classes, the model's vocabulary and the record of a score, kept in step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from refineclip.datasets.vocabularies import as_vocabulary, title_of


@HOOKS.register_module()
class DetVocabularyHook(Hook):
    """Check labels against names before training, set names before a test, record the settings.

    mmdet numbers labels in the order of the data set's ``classes``, the detector in that of its
    vocabulary; nothing else notices when they differ.

    Args:
        vocabulary: Test with these names, or a file of them, in place of the data set's classes;
            one for each class, in their order (synonyms, translations). What is base stays base.
    """

    priority = 'NORMAL'  # before LoggerHook, which writes the result file

    def __init__(self, vocabulary: Sequence[str] | str | Path | None = None) -> None:
        self.vocabulary = vocabulary

    def before_train(self, runner: Runner) -> None:
        """Refuse data whose classes are not the model's.

        Raises:
            ValueError: Names or their order differ, or a base class is none of them.
        """
        classifier = _model(runner).roi_head.bbox_head.fc_cls
        titles = [title_of(name) for name in classifier.names]
        strangers = sorted(classifier.base_titles - set(titles))
        if strangers:
            raise ValueError(
                f'base_names: expected names out of the vocabulary of {len(titles)} classes, got '
                f'{len(strangers)} others: {strangers[:5]}'
            )
        for loop in (runner.train_loop, runner.val_loop):
            if loop is None:
                continue
            classes = list(_classes(loop.dataloader))
            if _keys(classes) != _keys(titles):
                pairs = [
                    (a, b)
                    for a, b in zip(classes, titles, strict=False)
                    if _keys([a]) != _keys([b])
                ]
                raise ValueError(
                    f"expected the data set's {len(classes)} classes and the model's "
                    f'{len(titles)} names to be the same in the same order; first different '
                    f'(data set, model): {pairs[:3] or "their number"}'
                )

    def before_test(self, runner: Runner) -> None:
        """Give the model the names that it is tested with.

        Raises:
            ValueError: Their number is not that of the data set's classes.
        """
        model, classes = _model(runner), _classes(runner.test_dataloader)
        names = classes if self.vocabulary is None else as_vocabulary(self.vocabulary)
        if len(names) != len(classes):
            raise ValueError(
                f"expected one name for each of the data set's {len(classes)} classes, got "
                f'{len(names)}; to detect other things, use python -m refineclip detect'
            )
        if self.vocabulary is not None or _keys(names) != _keys(model.vocabulary):
            model.set_vocabulary(names, classes)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Write temperatures, alpha, beta, normalisation and so on into the result json."""
        for name, value in _model(runner).score_settings().items():
            runner.message_hub.update_info(f'test/{name}', value)


def _model(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _keys(names: Sequence[str]) -> list[str]:
    """Names as letters and digits: ``diningtable`` and ``dining table`` are one class."""
    return [''.join(filter(str.isalnum, title_of(name))).lower() for name in names]


def _classes(loader: Any) -> Sequence[str]:
    return loader.dataset.metainfo['classes']
