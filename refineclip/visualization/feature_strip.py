"""How the map of a model changes while it trains, as a strip of PCA maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from refineclip.datasets.image_inputs import find_inputs

from .panels import panel_grid
from .pca_maps import PcaBasis, fit_pca
from .pictures import Picture, as_map, fit_picture, normalize, to_picture
from .style import save_figure

_FRAME = (
    'Principal components of L2-normalised tokens as red, green and blue; basis, mean and range '
    'are those of the first column in every column.'
)
_STRIP = (
    'Principal components of L2-normalised tokens as red, green and blue; one basis, mean and '
    'range, fitted on all columns together.'
)


def feature_strip_figure(
    images: Sequence[Any],
    maps: Mapping[str, Sequence[Tensor]],
    basis: PcaBasis | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw the maps of one model at several moments: one row per image, one column per moment.

    Args:
        images: Whatever :func:`~refineclip.visualization.pictures.to_picture` takes.
        maps: Head of the column, e.g. ``'iteration 200'`` -> one map (D, h, w) per image.
        basis: Turns tokens into colours; fitted on all moments together if None. Unlike
            :func:`~refineclip.visualization.pca_maps.pca_figure` a moment has no mean of its own,
            so that drift is seen.
        caption: Text under the panels; says what they show if None.

    Returns:
        The figure.
    """
    if basis is None:
        basis = fit_pca({'all': [one for own in maps.values() for one in own]})['all']
        caption = _STRIP if caption is None else caption
    pictures = [to_picture(image) for image in images]
    aspects = [picture.shape[0] / picture.shape[1] for picture in pictures]
    figure, grid = panel_grid(aspects, ['image', *maps], _FRAME if caption is None else caption)
    for row, (line, picture) in enumerate(zip(grid, pictures, strict=True)):
        line[0].imshow(picture, aspect='auto')
        for axes, own in zip(line[1:], maps.values(), strict=True):
            axes.imshow(basis.colours(own[row]), aspect='auto', interpolation='nearest')
    return figure


@HOOKS.register_module()
class FeatureStripHook(Hook):
    """Draw the dense maps of a few images as a distillation stage trains.

    Every ``interval`` iterations it writes ``feature_strip/iter_N.png``: the images, their maps
    before training, and now, on the basis of the former. At the end it writes
    ``feature_strip/strip.png`` with all moments on one basis. It draws no random number and leaves
    the training as it was. After ``--resume`` the strip begins at the iteration of the checkpoint.

    Args:
        images: Folder or list of image files.
        interval: Iterations between two pictures. Not stated in the paper; 100 by default.
        num_images: The first n images are drawn.
        image_size: Longer side in pixels, a multiple of the patch; that of the run's preprocessor
            by default.
        max_columns: The strip shows so many moments, evenly spaced, first and last among them.
        out_dir: Folder; ``feature_strip`` in the run's work_dir by default.

    Raises:
        ValueError: On numbers below 1, a size that is no multiple of the patch, or no image.
        FileNotFoundError: If a file does not exist.
    """

    priority = 'LOW'

    def __init__(
        self,
        images: str | Path | Sequence[str | Path],
        interval: int = 100,
        num_images: int = 3,
        image_size: int | None = None,
        max_columns: int = 7,
        out_dir: str | Path | None = None,
    ) -> None:
        for name, value in (('interval', interval), ('num_images', num_images)):
            if value < 1:
                raise ValueError(f'{name}: expected 1 or more, got {value}')
        if max_columns < 2:
            raise ValueError(f'max_columns: expected 2 or more, got {max_columns}')
        self.files = find_images(images)[:num_images]
        self.interval = interval
        self.image_size = image_size
        self.max_columns = max_columns
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.pictures: list[Picture] = []
        self.moments: dict[int, list[Tensor]] = {}

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Read the images, and keep the maps that training starts from."""
        model = _unwrap(runner.model)
        visual = _visual(model)
        size = self.image_size or max(model.data_preprocessor.image_size)
        self.pictures = [fit_picture(file, size, visual.patch_size) for file in self.files]
        self.moments = {runner.iter: self._maps(model, visual)}

    @master_only
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Draw every ``interval`` iterations."""
        if (runner.iter + 1) % self.interval == 0:
            self._keep(runner, runner.iter + 1)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the strip."""
        if runner.iter not in self.moments:
            self._keep(runner, runner.iter)
        moments = sorted(self.moments)
        last = len(moments) - 1
        columns = min(self.max_columns, len(moments))
        chosen = [moments[round(i * last / max(columns - 1, 1))] for i in range(columns)]
        maps = {_head(moment): self.moments[moment] for moment in chosen}
        figure = feature_strip_figure(self.pictures, maps)
        path = save_figure(figure, self._folder(runner) / 'strip.png')
        runner.logger.info(f'Feature strip of {columns} moments written to {path}')

    def _keep(self, runner: Runner, moment: int) -> None:
        model = _unwrap(runner.model)
        self.moments[moment] = self._maps(model, _visual(model))
        start = min(self.moments)
        maps = {_head(one): self.moments[one] for one in (start, moment)}
        basis = fit_pca({'start': self.moments[start]})['start']
        figure = feature_strip_figure(self.pictures, maps, basis)
        save_figure(figure, self._folder(runner) / f'iter_{moment}.png')

    def _folder(self, runner: Runner) -> Path:
        return self.out_dir or Path(runner.work_dir) / 'feature_strip'

    @torch.no_grad()
    def _maps(self, model: Any, visual: Any) -> list[Tensor]:
        modes = {module: module.training for module in model.modules()}
        model.eval()
        device = next(model.parameters()).device
        maps = []
        for picture in self.pictures:
            images = normalize(picture, visual.image_mean, visual.image_std).to(device)
            maps.append(as_map(model.dense(images)))
        for module, training in modes.items():
            module.training = training
        return maps


def find_images(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """Image files of a folder with its sub-folders, sorted, or of a list of files and folders.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a folder holds no image, or the list is empty.
    """
    return [image.path for image in find_inputs(source)]


def _head(moment: int) -> str:
    return f'iteration {moment}' if moment else 'start'


def _unwrap(model: Any) -> Any:
    return model.module if is_model_wrapper(model) else model


def _visual(model: Any) -> Any:
    """The ViT of a distillation stage.

    Raises:
        TypeError: If the model is none.
    """
    owner = getattr(model, 'student', None) or getattr(model, 'encoder', None)
    if owner is None or not hasattr(model, 'dense'):
        raise TypeError(
            'FeatureStripHook: expected RefinerTraining or RegionAlignment, got '
            f'{type(model).__name__}'
        )
    return owner.visual
