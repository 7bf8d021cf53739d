"""The data side of a training at the size of COCO: start, listing, memory of workers over epochs.

    python -m benchmarks data-scale                 118,287 images, json files of about 2 and 1.2 GB
    python -m benchmarks data-scale --images 2000   smaller

Files are made up in a temporary folder (names linked to few JPEGs; file systems allow 65,000 links
to one) and removed. Memory of a worker is what it holds beyond pages that it still shares with
the process it was forked from (``Private_Dirty`` of ``/proc/PID/smaps_rollup``).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .forks import in_fork

LINKS = 50_000  # to one file; ext4 allows 65,000
EPOCHS, WORKERS, BATCH = 3, 4, 16
START_SECONDS, WORKER_MIB, FLAT_MIB = 60, 1024, 32  # goals


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks data-scale',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--images', type=int, default=118_287, help='images (default: %(default)s)')
    parser.add_argument(
        '--proposals', type=int, default=400, help='boxes of an image (default: %(default)s)'
    )
    parser.add_argument(
        '--annotations', type=int, default=11, help='of an image, in the LVIS file (%(default)s)'
    )
    parser.add_argument(
        '--points', type=int, default=60, help='of the polygon of an annotation (%(default)s)'
    )
    parser.add_argument(
        '--read',
        type=int,
        metavar='N',
        help='images that an epoch reads (default: all); the rest is looked up, not read',
    )
    parser.add_argument('--tmp', type=Path, help='where the temporary folder is made')
    return parser.parse_args(argv)


def make_images(root: Path, number: int) -> None:
    """Names of a folder that link to few small JPEGs."""
    from PIL import Image

    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for index in range(number):
        if index % LINKS == 0:
            first = root / name_of(index)
            Image.fromarray(pixels).save(first, quality=80)
        else:
            os.link(first, root / name_of(index))


def name_of(index: int) -> str:
    """A name as COCO has them."""
    return f'{index:012d}.jpg'


def make_proposals(path: Path, number: int, boxes: int) -> None:
    """A proposals file of this project's layout."""
    rng = np.random.default_rng(0)
    some = [json.dumps(np.round(rng.random((boxes, 4)) * 48, 2).tolist()) for _ in range(50)]
    with path.open('w') as file:
        for index in range(number):
            file.write(f'{"," if index else "{"} "{name_of(index)}": {some[index % 50]}')
        file.write('}')


def make_lvis(path: Path, number: int, annotations: int, points: int) -> None:
    """An LVIS file: images, and annotations with polygons."""
    rng = np.random.default_rng(0)
    some = [np.round(rng.random(2 * points) * 480, 2).tolist() for _ in range(50)]
    with path.open('w') as file:
        file.write('{"info": {}, "annotations": [')
        for index in range(number * annotations):
            one = dict(id=index, image_id=index // annotations, category_id=1 + index % 1203)
            one |= dict(area=100.5, bbox=[1.5, 2.5, 30.25, 20.0], segmentation=[some[index % 50]])
            file.write((', ' if index else '') + json.dumps(one))
        file.write('], "images": [')
        for index in range(number):
            one = dict(id=index, coco_url=f'http://images.cocodataset.org/{name_of(index)}')
            one |= dict(width=64, height=48, neg_category_ids=[1, 2], license=1)
            file.write((', ' if index else '') + json.dumps(one))
        file.write('], "categories": []}')


def timed(function: Callable[[], Any]) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory in MiB of a call in a child of its own."""

    def call() -> dict[str, float]:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu_start = time.perf_counter(), time.process_time()
        function()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return dict(seconds=seconds, cpu=cpu, peak=(peak - before) / 1024)

    return dict(in_fork(call))


def private_mib(pid: int) -> float:
    """Memory of a process that it shares with none."""
    lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith('Private_Dirty')) / 1024


def dataset_of(root: Path, proposals: Path | None) -> Any:
    """Images with regions of a file, or drawn."""
    import refineclip.distill  # noqa: F401
    from refineclip.datasets.image_folder import RegionImageFolder

    sampler: dict[str, Any] = dict(type='GridRegions')
    if proposals is not None:
        sampler = dict(type='ProposalRegions', proposal_file=str(proposals))
    return RegionImageFolder(str(root), sampler)


def workers_over_epochs(root: Path, proposals: Path, read: int | None) -> list[list[float]]:
    """MiB of each worker that are its own, after the first batches and after each epoch."""
    from torch.utils.data import DataLoader

    from refineclip.datasets.collate import collate_regions
    from refineclip.datasets.samplers import EpochSampler

    dataset = dataset_of(root, proposals)
    sampler = EpochSampler(Looked(dataset, read), shuffle=True, seed=0)
    loader = DataLoader(
        sampler.dataset,
        batch_size=BATCH,
        sampler=sampler,
        num_workers=WORKERS,
        collate_fn=collate_regions,
        persistent_workers=True,
        multiprocessing_context='fork',
    )
    grown: list[list[float]] = []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        batches = iter(loader)
        for number, _ in enumerate(batches):
            if epoch == number == 0:
                grown.append(_of_workers(batches))
        grown.append(_of_workers(batches))
    return grown


class Looked:
    """A data set of which an epoch looks every image up, but decodes some only."""

    def __init__(self, dataset: Any, read: int | None) -> None:
        self.dataset, self.epoch_stride = dataset, len(dataset)
        self.step = 1 if read is None else max(1, len(dataset) // read)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index % len(self) % self.step == 0:
            return dict(self.dataset[index])
        path = self.dataset.path(index % len(self))
        self.dataset.region_sampler(64, 48, np.random.default_rng(index), path)
        return dict(bad_image=(path, 'not read'))


def _of_workers(batches: Any) -> list[float]:
    return [private_mib(worker.pid) for worker in batches._workers]


def dead_worker(root: Path) -> str:
    """What a training says whose worker was killed."""
    from torch.utils.data import DataLoader

    from refineclip.datasets.collate import collate_regions

    loader = DataLoader(
        dataset_of(root, None), batch_size=2, num_workers=2, collate_fn=collate_regions
    )
    batches = iter(loader)
    next(batches)
    os.kill(batches._workers[0].pid, signal.SIGKILL)
    start = time.perf_counter()
    try:
        for _ in range(100):
            next(batches)
    except RuntimeError as error:
        return f'after {time.perf_counter() - start:.1f} s: {error}'.splitlines()[0]
    return 'nothing'


def report(args: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Lines of the table, each as soon as it is there."""
    import refineclip.distill  # noqa: F401  (before what is timed)
    from refineclip.datasets.image_folder import read_image_list

    root, proposals, lvis = folder / 'images', folder / 'proposals.json', folder / 'lvis.json'
    make_images(root, args.images)
    make_proposals(proposals, args.images, args.proposals)
    make_lvis(lvis, args.images, args.annotations, args.points)
    sizes = [path.stat().st_size / 1e9 for path in (proposals, lvis)]
    yield f'{args.images} images, proposals of {sizes[0]:.2f} GB, LVIS file of {sizes[1]:.2f} GB'
    yield '| what | wall (s) | CPU (s) | peak memory (MiB) |'
    yield '| --- | --- | --- | --- |'
    for what, function in {
        'list the folder, regions drawn': lambda: dataset_of(root, None),
        'names of the LVIS file': lambda: read_image_list(lvis),
        'start with proposals': lambda: dataset_of(root, proposals),
    }.items():
        found = timed(function)
        yield f'| {what} | {found["seconds"]:.1f} | {found["cpu"]:.1f} | {found["peak"]:.0f} |'
    lvis.unlink()
    yield f'start <= {START_SECONDS} s of CPU: {verdict(found["cpu"] <= START_SECONDS)}'
    grown = in_fork(workers_over_epochs, root, proposals, args.read)
    yield f'own memory of {WORKERS} workers (MiB, the largest): ' + ', '.join(
        f'{when} {max(own):.0f}'
        for when, own in zip(('at start', *map(str, range(1, EPOCHS + 1))), grown, strict=True)
    )
    last, first = max(grown[-1]), max(grown[1])
    yield f'<= {WORKER_MIB} MiB: {verdict(last <= WORKER_MIB)}'
    yield f'flat from the first epoch on (+{FLAT_MIB} MiB): {verdict(last - first <= FLAT_MIB)}'
    yield f'a killed worker, {in_fork(dead_worker, root)}'


def verdict(fine: bool) -> str:
    """A goal in a word."""
    return 'reached' if fine else 'missed'


def main(argv: list[str]) -> int:
    """Make the files, measure, print, remove the files."""
    args = parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix='data-scale-', dir=args.tmp))
    try:
        for line in report(args, folder):
            sys.stdout.write(f'{line}\n')
            sys.stdout.flush()
    finally:
        shutil.rmtree(folder)
    return 0
