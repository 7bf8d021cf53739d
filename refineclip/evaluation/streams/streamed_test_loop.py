"""Test loop of mmengine whose images are a stream: shared, kept on disk, shown as they pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.registry import LOOPS
from mmengine.runner import TestLoop
from torch.utils.data import DataLoader

from .image_stream import ImageStream, Track
from .result_store import ResultStore, describe_file, digest


@LOOPS.register_module()
class StreamedTestLoop(TestLoop):
    """Test, and keep what the metrics take from each image, so that a stopped test goes on.

    Metrics keep a small result of each image and make their numbers of all of them at the end, as
    mmengine's do; no prediction is held. The same numbers as ``TestLoop``. :meth:`keep` says where
    results are kept; without it they are not.

    Args:
        runner: The runner.
        dataloader: Loader or its config; its sampler is replaced by the images that are missing.
        evaluator: Metrics or their configs.
        fp16: Test in half precision.
    """

    store: ResultStore | None = None
    track: Track | None = None

    def keep(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        """Keep results in a folder.

        Args:
            folder: See :class:`ResultStore`.
            settings: Everything that decides a result, beside the data set: weights, words,
                pipeline, metrics.

        Raises:
            ValueError: If the folder holds other results under this name.
        """
        dataset = self.dataloader.dataset
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        data = digest([[info, describe_file(info['img_path'])] for info in infos])
        self.store = ResultStore(folder, {**settings, 'data set': data})

    def run(self) -> dict[str, float]:
        """Test the images that have no result yet, and make the metrics of all."""
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        stream = ImageStream(len(self.dataloader.dataset), self.store, self.track)
        failure = None
        try:
            self._test_all(stream)
        except Exception as error:
            failure = error
        # In all processes, so that none waits for what will not come.
        for one in all_gather_object(failure):
            if one is not None:
                raise one
        for metric, results in zip(self.evaluator.metrics, _columns(stream.own()), strict=False):
            metric.results = list(results)
        metrics: dict[str, float] = self.evaluator.evaluate(len(self.dataloader.dataset))
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics

    def _test_all(self, stream: ImageStream) -> None:
        batches = enumerate(self._loader(stream.missing))
        waiting: list[tuple[Any, ...]] = []
        for index in stream:
            if not waiting:
                waiting = self._test(*next(batches))
            stream.put(index, waiting.pop(0))

    def _loader(self, missing: list[int]) -> DataLoader:
        """The loader's images without a result, in order."""
        old = self.dataloader
        return DataLoader(
            old.dataset,
            batch_size=old.batch_size,
            sampler=missing,
            num_workers=old.num_workers,
            collate_fn=old.collate_fn,
            pin_memory=old.pin_memory,
            worker_init_fn=old.worker_init_fn,
            prefetch_factor=old.prefetch_factor,
        )

    def _test(self, number: int, batch: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Results of the images of a batch, each of all metrics.

        Raises:
            TypeError: If a metric does not keep one result of each image.
        """
        self.run_iter(number, batch)
        taken = []
        for metric in self.evaluator.metrics:
            taken.append(list(metric.results))
            metric.results.clear()
        counts = {len(results) for results in taken}
        if counts != {len(batch['inputs'])}:
            raise TypeError(
                f'expected metrics that keep one result of each of {len(batch["inputs"])} images, '
                f'got {sorted(counts)} of {[type(one).__name__ for one in self.evaluator.metrics]}'
            )
        return list(zip(*taken, strict=True))


def _columns(rows: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    return zip(*rows, strict=True)


def streamed(test_cfg: Mapping[str, Any] | None) -> dict[str, Any]:
    """Make the config of a test loop that of one whose images are a stream.

    Raises:
        ValueError: If it is of another kind than mmengine's ``TestLoop``.
    """
    cfg = dict(test_cfg or {})
    if (kind := cfg.get('type', 'TestLoop')) not in ('TestLoop', 'StreamedTestLoop'):
        raise ValueError(f'test_cfg: expected type TestLoop, got {kind}; use tools/test.py for it')
    return {**cfg, 'type': 'StreamedTestLoop'}
