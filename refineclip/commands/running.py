"""Configs through mmengine's Runner, within a command: quiet, and several in one process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from refineclip.datasets.loader_settings import settle_workers


def place(cfg: Config, folder: Path) -> Config:
    """Make a run's work_dir a folder, and give it a name of its own in this process."""
    settle_workers(cfg)
    cfg.work_dir = str(folder)
    # Names mmengine's loggers, of which a process keeps one per name.
    cfg.experiment_name = f'{folder.parent.name}-{folder.name}'
    return cfg


@contextlib.contextmanager
def running(cfg: Config, folder: Path) -> Iterator[Runner]:
    """A runner whose output goes to ``train.log`` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / 'train.log').open('w') as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        runner = Runner.from_cfg(cfg)
        yield runner
        # mmengine keeps the logger as the current one of the process, but the log is closed now.
        for handler in list(runner.logger.handlers):
            runner.logger.removeHandler(handler)
            handler.close()
