"""Rows of ``evaluate segmentation``: models with weights, run on benchmarks, results kept."""

from __future__ import annotations

import copy
import hashlib
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.runner import Runner, load_checkpoint
from mmseg.datasets import BaseSegDataset
from torch import nn

from refineclip import __version__
from refineclip.datasets.loader_settings import settle_workers
from refineclip.encoders.text.name_files import read_json
from refineclip.encoders.text.text_bank import from_first_process
from refineclip.encoders.weights.weights_hash import weights_hash
from refineclip.encoders.weights.whole_files import warn_made_anew
from refineclip.evaluation.encoders import COLOUR, load_encoders
from refineclip.evaluation.streams import digest
from refineclip.evaluation.streams.streamed_test_loop import streamed
from refineclip.segmentation import TextSegmentor
from refineclip.segmentation.benchmarks.benchmark import Benchmark

from ..config_options import override, read_config_file
from .common import progress, write_json

LABEL_LOADERS = ('LoadAnnotations', 'LoadSegLabels')


def read_config(path: Path, options: list[str]) -> Config:
    """Read the config of a segmentor and lay the command line over it.

    A key of the model on the command line holds for all benchmarks, also for those that have their
    own in ``benchmark_thresholds``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has no model or test pipeline.
    """
    cfg = read_config_file(path, ('model', 'test_dataloader'))
    if (scope := cfg.get('default_scope') or 'mmseg') != 'mmseg':
        raise ValueError(f'{path}: expected the config of a segmentor (mmseg), got one of {scope}')
    override(cfg, options)
    for option in options:
        key = option.partition('=')[0].removeprefix('model.')
        for own in cfg.get('benchmark_thresholds', {}).values():
            own.pop(key, None)
    return cfg


class SegmentationRows:
    """Models of one config with several weights.

    Args:
        cfg: Config of a segmentor.
        rows: Row name -> checkpoint; None for the config's own weights.
        data_root: Folder of all data sets.
        work_dir: Where results are kept: ``ROW/PROTOCOL_BENCHMARK.json``.
        limit: Use the first images only.
        num_workers: Workers that load images; None takes the config's.

    Raises:
        ValueError: If the config's model cannot change its vocabulary, or weights do not fit.
        FileNotFoundError: If a checkpoint does not exist.
    """

    def __init__(
        self,
        cfg: Config,
        rows: Mapping[str, str | None],
        data_root: Path,
        work_dir: Path,
        limit: int | None = None,
        num_workers: int | None = None,
    ) -> None:
        init_default_scope(cfg.get('default_scope') or 'mmseg')
        self.cfg, self.rows = cfg, rows
        self.data_root, self.work_dir = data_root, work_dir
        self.limit, self.num_workers = limit, num_workers
        self.model: Any = MODELS.build(copy.deepcopy(cfg.model.to_dict()))
        if not hasattr(self.model, 'set_vocabulary'):
            raise ValueError(
                'expected a model with set_vocabulary (TextSegmentor, CATSeg), got '
                f'{type(self.model).__name__}; use tools/test.py for models of fixed classes'
            )
        is_free = isinstance(self.model, TextSegmentor)
        if cfg.get('benchmark_thresholds') and not is_free:
            raise ValueError(
                'benchmark_thresholds: expected a TextSegmentor, which has them, got '
                f'{type(self.model).__name__}'
            )
        self.thresholds: dict[str, float] = self.model.thresholds if is_free else {}
        self.encoders = self._load_encoders()
        self.loaded: str | None = None
        self.hashes: dict[str, str] = {}

    def _load_encoders(self) -> dict[str, nn.Module]:
        """Encoders of the rows of a training-free model; none for others."""
        specs = {row: spec for row, spec in self.rows.items() if spec is not None}
        if not isinstance(self.model, TextSegmentor):
            for row in self.rows:
                spec = specs.get(row)
                if spec is None or not Path(spec).is_file():
                    raise FileNotFoundError(
                        f'expected a checkpoint of {type(self.model).__name__} for the row '
                        f'{row!r}, got {spec}'
                    )
            return {}
        if not specs:
            return {}
        if bad := [row for row, spec in specs.items() if spec == COLOUR]:
            raise ValueError(f'--models: expected rows with a text space, got mean colours: {bad}')
        backbone = self.cfg.model.backbone
        return load_encoders(
            specs,
            backbone.model,
            dense_mode=backbone.get('dense_mode', 'value'),
            model_kwargs=backbone.get('model_kwargs'),
            refiner_input=(backbone.get('refiner') or {}).get('input', 'block'),
            position_interpolation=backbone.get('position_interpolation'),
        )

    def _load(self, row: str) -> None:
        """Put the row's weights into the model."""
        if self.loaded == row:
            return
        spec = self.rows[row]
        if row in self.encoders:
            self.model.backbone = self.encoders[row]
        elif spec is not None:
            try:
                load_checkpoint(self.model, spec, map_location='cpu', strict=True)
            except RuntimeError as error:
                raise ValueError(f'{spec}: {error}') from error
        self.loaded = row
        if row not in self.hashes:
            # Of a TextSegmentor the encoder: the words of the last benchmark are in it as well.
            own = self.model.backbone if isinstance(self.model, TextSegmentor) else self.model
            self.hashes[row] = weights_hash(own)

    def result(self, row: str, benchmark: Benchmark) -> dict[str, Any]:
        """Evaluate a row on a benchmark, or read the result of a finished evaluation of the same.

        Raises:
            ValueError: If labels do not fit.
            FileNotFoundError: If a file of the data set is missing.
        """
        self._load(row)
        dataset = benchmark.build(self.data_root)
        settings = self._settings(row, benchmark, dataset)
        key = digest(settings)
        path = self.work_dir / row / f'{benchmark.protocol}_{benchmark.name}.json'
        kept: dict[str, Any] | None = from_first_process(lambda: _kept_result(path))
        if kept and kept.get('key') == key:
            if is_main_process():
                sys.stderr.write(f'{row}, {benchmark.name}: read from {path}\n')
            return kept
        started = time.monotonic()
        metrics, class_iou = self._test(row, benchmark, settings)
        num_images = min(len(dataset), self.limit or len(dataset))
        scored = benchmark.num_classes or len(class_iou)
        found = {
            'protocol': benchmark.protocol,
            'average': benchmark.average,
            **{name: float(value) for name, value in metrics.items()},
            'class_iou': [None if math.isnan(value) else value for value in class_iou[:scored]],
            'num_images': num_images,
            'is_complete': num_images in benchmark.counts,
            'seconds': round(time.monotonic() - started, 1),
            'key': key,
            'settings': settings,
        }
        write_json(path, found)
        return found

    def _settings(self, row: str, benchmark: Benchmark, dataset: BaseSegDataset) -> dict[str, Any]:
        """Everything that decides the number."""
        return {
            'version': __version__,
            'checkpoint': self.rows[row],
            'weights': self.hashes[row],
            'model': {**self.cfg.model.to_dict(), **self._thresholds(benchmark)},
            'files': _files(self.cfg.model.to_dict()),
            'pipeline': self._pipeline(benchmark),
            'dataset': benchmark.dataset_cfg(self.data_root),
            'vocabulary': list(dataset.metainfo['classes']),
            'evaluator': benchmark.evaluator_cfg(),
            'limit': self.limit,
            'data': _fingerprint(dataset, self.limit),
        }

    def _thresholds(self, benchmark: Benchmark) -> dict[str, float]:
        """The model's thresholds, those that the config has for this benchmark in their place."""
        own = self.cfg.get('benchmark_thresholds', {}).get(benchmark.name, {})
        return {**self.thresholds, **own}

    def _pipeline(self, benchmark: Benchmark) -> list[dict[str, Any]]:
        """The config's test pipeline with the benchmark's labels, and its scale if it has one."""
        scale = self.cfg.get('benchmark_scales', {}).get(benchmark.name)
        steps = []
        for step in self.cfg.test_dataloader.dataset.pipeline:
            step = step.to_dict() if hasattr(step, 'to_dict') else dict(step)
            if step['type'] in LABEL_LOADERS:
                step = benchmark.loader_cfg()
            elif step['type'] == 'Resize' and scale is not None:
                step['scale'] = tuple(scale)
            steps.append(step)
        if not any(step['type'] == 'LoadSegLabels' for step in steps):
            raise ValueError(f'expected a test pipeline with one of {LABEL_LOADERS}, got none')
        return steps

    def _test(
        self, row: str, benchmark: Benchmark, settings: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[float]]:
        if thresholds := self._thresholds(benchmark):
            self.model.set_thresholds(**thresholds)
        loader = self.cfg.test_dataloader.to_dict()
        if self.num_workers is not None:
            loader['num_workers'] = self.num_workers
        settle_workers({'test_dataloader': loader})
        loader['dataset'] = dict(
            **benchmark.dataset_cfg(self.data_root),
            pipeline=self._pipeline(benchmark),
            test_mode=True,
            indices=self.limit,
            serialize_data=False,
        )
        runner = Runner(
            self.model,
            work_dir=str(self.work_dir / 'logs'),
            test_dataloader=loader,
            test_evaluator=benchmark.evaluator_cfg(),
            test_cfg=streamed(self.cfg.get('test_cfg')),
            default_hooks=dict(logger=None, checkpoint=None, param_scheduler=None),
            custom_hooks=[dict(type='VocabularyHook')],
            default_scope=DefaultScope.get_current_instance().scope_name,
            log_level='WARNING',
            experiment_name=f'{row}_{benchmark.name}_{time.monotonic_ns()}',
            visualizer=dict(type='Visualizer', name=f'none_{time.monotonic_ns()}'),
        )
        runner.test_loop.keep(self.work_dir / row / 'images', settings)
        runner.test_loop.track = progress(f'{row}, {benchmark.name}')
        metrics = runner.test()
        return metrics, runner.test_evaluator.metrics[0].class_iou


def _files(node: Any) -> dict[str, list[int]]:
    """Sizes and times of the files that a config names: weights, heads, embeddings."""
    if isinstance(node, str):
        # A long text is no path, and asking whether it is raises.
        path = Path(node) if len(node) < 1024 else None
        if path is None or not path.is_file():
            return {}
        return {node: [path.stat().st_size, path.stat().st_mtime_ns]}
    if not isinstance(node, dict | list | tuple):
        return {}
    nodes = node.values() if isinstance(node, dict) else node
    return {name: found for one in nodes for name, found in _files(one).items()}


def _fingerprint(dataset: BaseSegDataset, limit: int | None) -> str:
    """Hash of names, sizes and times of the files, so that other data are measured anew."""
    digest = hashlib.sha256()
    for index in range(min(len(dataset), limit or len(dataset))):
        info = dataset.get_data_info(index)
        for key in ('img_path', 'seg_map_path'):
            path = Path(info[key])
            if not path.is_file():
                raise FileNotFoundError(f'expected {path}, got no file')
            status = path.stat()
            digest.update(f'{path.name} {status.st_size} {status.st_mtime_ns}'.encode())
    return digest.hexdigest()


def _kept_result(path: Path) -> dict[str, Any] | None:
    """Read the result of an earlier evaluation; a file that is broken is none."""
    if not path.is_file():
        return None
    try:
        kept = read_json(path)
    except ValueError as error:
        warn_made_anew(str(error))
        return None
    return kept if isinstance(kept, dict) else None
