"""Check the labels of a benchmark through the very code that evaluates on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refineclip.datasets.image_io import BadImageError, read_image_size

from .benchmark import Benchmark
from .loading import LoadSegLabels

Track = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass
class LabelReport:
    """What was found.

    Attributes:
        benchmark: Of what.
        classes: Names of the labels.
        num_images: Images that the data set lists.
        num_labelled: Those whose label map could be read and fits.
        histogram: Pixels of each label.
        num_ignored: Pixels that are not scored.
        problems: One line per image that cannot be used.
    """

    benchmark: Benchmark
    classes: tuple[str, ...]
    num_images: int = 0
    num_labelled: int = 0
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    num_ignored: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """No problem, and as many images as were published."""
        return not self.problems and self.num_images in self.benchmark.counts

    @property
    def verdict(self) -> str:
        """One line: complete, partial or broken, and against what."""
        published = ' or '.join(f'{count:,}' for count in self.benchmark.counts)
        if self.problems:
            return f'BROKEN: {len(self.problems):,} of {self.num_images:,} images lack good labels'
        if not self.is_complete:
            return f'PARTIAL: {self.num_images:,} images, published are {published}'
        return f'complete: {self.num_images:,} images, as published'

    def text(self, num_problems: int = 5, num_rare: int = 5) -> str:
        """Lay the report out.

        Args:
            num_problems: How many problems to name.
            num_rare: How many of the rarest classes to name.
        """
        scored = int(self.histogram.sum())
        lines = [
            f'{self.benchmark.key} ({self.benchmark.title}): {self.num_images:,} images, '
            f'{self.num_labelled:,} good label maps'
        ]
        if scored:
            present = np.flatnonzero(self.histogram)
            share = self.num_ignored / (self.num_ignored + scored)
            rare = present[np.argsort(self.histogram[present], kind='stable')][:num_rare]
            lines += [
                f'  labels {present[0]}..{present[-1]}, {len(present)} of {len(self.histogram)} '
                f'occur; {share:.1%} of the pixels ignored',
                '  rarest: '
                + ', '.join(
                    f'{self.classes[index]} {self.histogram[index] / scored:.1e}' for index in rare
                ),
            ]
        lines += [f'  {problem}' for problem in self.problems[:num_problems]]
        if len(self.problems) > num_problems:
            lines.append(f'  ... and {len(self.problems) - num_problems:,} more')
        return '\n'.join([*lines, f'  {self.verdict}']) + '\n'


def check_labels(
    benchmark: Benchmark, root: str | Path = 'data', track: Track = lambda items: items
) -> LabelReport:
    """Read every label map of a benchmark.

    Args:
        benchmark: Which.
        root: Folder of all data sets.
        track: Wrapper of the loop, for a progress bar.

    Raises:
        FileNotFoundError: If the data set is not there.
        ValueError: If its class file does not fit.
    """
    dataset = benchmark.build(root)
    loader_cfg = benchmark.loader_cfg()
    del loader_cfg['type']
    loader = LoadSegLabels(**loader_cfg)
    classes = tuple(dataset.metainfo['classes'])
    if benchmark.num_classes is not None:  # VOC20b: what is beyond counts as background
        classes = (*classes[: benchmark.num_classes - 1], 'background')
    report = LabelReport(benchmark, classes, num_images=len(dataset))
    report.histogram = np.zeros(len(classes), dtype=np.int64)
    for index in track(range(len(dataset))):
        info = dataset.get_data_info(index)
        try:
            width, height = read_image_size(info['img_path'])
            labels = _labels(loader, info, (height, width))
        except (ValueError, FileNotFoundError, BadImageError) as error:
            report.problems.append(str(error))
            continue
        report.num_labelled += 1
        valid = labels != loader.ignore_index
        report.num_ignored += int((~valid).sum())
        report.histogram += np.bincount(labels[valid], minlength=len(classes))
    return report


def _labels(loader: LoadSegLabels, info: dict, size: tuple[int, int]) -> np.ndarray:
    results = {**info, 'seg_fields': [], 'ori_shape': size}
    loader.transform(results)
    return results['gt_seg_map']
