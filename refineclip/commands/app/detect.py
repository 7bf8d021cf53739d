"""What the tab Detect shows: boxes by words, where mmdet and a detector are there."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refineclip.datasets.vocabularies import check_vocabulary
from refineclip.visualization.pictures import Picture

from ..config_options import read_config_file


@dataclass(frozen=True)
class Boxes:
    """Boxes drawn on an image, what they are, and the milliseconds that they took."""

    picture: Picture
    summary: str
    milliseconds: float


class Detectors:
    """F-ViT detectors by name; each is built when it is asked for the first time.

    Args:
        files: Name -> config and checkpoint.
        device: Where they run.

    Raises:
        FileNotFoundError: If a file does not exist.
    """

    def __init__(self, files: Mapping[str, tuple[Path, Path]], device: str = 'cpu') -> None:
        for path in (path for pair in files.values() for path in pair):
            if not path.is_file():
                raise FileNotFoundError(f'--detector: expected a file, got {path}')
        self.files, self.device = dict(files), device
        self.built: dict[str, Any] = {}

    def lacking(self) -> str:
        """What has to be done before anything can be detected; empty if nothing."""
        # Not mmcv._ext: where mmcv has no operators, torchvision's stand in for them.
        if not all(map(_is_installed, ('mmcv', 'mmdet'))):
            return (
                'Detectors need mmdet and mmcv: `python -m refineclip doctor` says what to install.'
            )
        if not self.files:
            return (
                'No detector yet: start this page with --detector CONFIG CHECKPOINT. '
                '`python -m refineclip demo --seeds 0 1 2` trains some on the drawn world, which '
                'this page then finds by itself; docs/detection.md trains one on photographs.'
            )
        return ''

    def detect(self, name: str, whole: Picture, words: Sequence[str], least: float) -> Boxes:
        """Detect words in an image, as ``python -m refineclip detect`` does.

        Args:
            name: Name of the detector.
            whole: (H, W, 3) uint8 RGB.
            words: What to look for.
            least: Least score that is drawn.

        Raises:
            ValueError: If a word is empty or there twice, or the files do not fit.
        """
        from refineclip.detection.inferencer import OVDetInferencer

        names = check_vocabulary(list(words), 'words')
        if name not in self.built:
            config, checkpoint = self.files[name]
            settings = read_config_file(config, ('model', 'test_dataloader'))
            self.built[name] = OVDetInferencer(settings, checkpoint, names, device=self.device)
            self.built[name].show_progress = False
        started = time.perf_counter()
        result = self.built[name](
            np.ascontiguousarray(whole[..., ::-1]), names, return_vis=True, pred_score_thr=least
        )
        taken = 1000 * (time.perf_counter() - started)
        [found], [picture] = result['predictions'], result['visualization']
        kept = [
            f'{title} {score:.2f}'
            for title, score in zip(found['names'], found['scores'], strict=True)
            if score >= least
        ]
        return Boxes(picture, ', '.join(kept) or 'nothing above the least score', taken)


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
