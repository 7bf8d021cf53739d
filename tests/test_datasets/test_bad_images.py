from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from mmengine.registry import HOOKS

from refineclip.datasets import bad_images
from refineclip.datasets.bad_images import BadImageHook, TooManyBadImagesError


def runner_of(num_images: int) -> SimpleNamespace:
    return SimpleNamespace(train_dataloader=SimpleNamespace(dataset=range(num_images)))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    lines: list[tuple[str, int]] = []
    monkeypatch.setattr(
        bad_images, 'print_log', lambda message, logger, level: lines.append((message, level))
    )
    return lines


def test_one_warning_per_file_and_a_final_count(log: list) -> None:
    hook = HOOKS.build({'type': 'BadImageHook', 'max_bad_fraction': 0.02})
    runner = runner_of(100)
    for _ in range(3):
        hook.before_train_iter(runner, 0, {'bad_images': [('a.jpg', 'zero-byte file')]})
        hook.before_train_iter(runner, 0, {'bad_images': []})
    hook.before_train_iter(runner, 0, {'bad_images': [('b.jpg', 'animated, 2 frames')]})
    assert log == [
        ('Skipped image a.jpg: zero-byte file', logging.WARNING),
        ('Skipped image b.jpg: animated, 2 frames', logging.WARNING),
    ]
    hook.after_train(runner)
    assert log[2][0] == '2 of 100 images could not be used and were skipped: a.jpg, b.jpg'
    assert len(log) == 3


def test_more_than_the_fraction_is_an_error(log: list) -> None:
    hook = BadImageHook()
    runner = runner_of(200)
    for name in ('a', 'b'):  # exactly 1 % is tolerated
        hook.before_train_iter(runner, 0, {'bad_images': [(name, 'r')]})
    with pytest.raises(TooManyBadImagesError, match=r'at most 2 .* of 200 .* got 3, .* c: r\.'):
        hook.before_train_iter(runner, 0, {'bad_images': [('c', 'r')]})
    assert log[-1][0] == 'Skipped image c: r'


def test_no_bad_image_no_words(log: list) -> None:
    hook = BadImageHook(max_bad_fraction=0)
    hook.before_train_iter(runner_of(5), 0, {'bad_images': []})
    hook.before_train_iter(runner_of(5), 0, None)
    hook.before_train_iter(runner_of(5), 0, {'inputs': []})
    hook.after_train(runner_of(5))
    assert log == []


def test_fraction_is_checked() -> None:
    with pytest.raises(ValueError, match=r'fraction in \[0, 1\], got 2'):
        BadImageHook(max_bad_fraction=2)
