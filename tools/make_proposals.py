"""Make a proposals file for ``ProposalRegions``: class-agnostic boxes of every image of a folder.

With ``--detector CONFIG CHECKPOINT`` the boxes come from any mmdet model, an RPN say; without, from
superpixels (scikit-image and scikit-learn, no trained model). The file maps image names, relative
to the folder, to rows of [x1, y1, x2, y2, score] in pixels of the image after its EXIF rotation.

A run that is stopped goes on where it was: results are kept in ``OUT.partial`` until all are there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refineclip.datasets.proposal_making import BoxFilter

Record = dict[str, Any]  # {'name': ..., 'boxes': rows} or {'name': ..., 'bad': reason}
SECONDS_BETWEEN_LINES = 10.0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; heavy libraries are imported after it, so errors come at once."""
    from refineclip.commands.evaluate.common import usable_device

    parser = argparse.ArgumentParser(description='Make a file of class-agnostic proposals.')
    parser.add_argument('--data-root', type=Path, required=True, help='folder of images')
    parser.add_argument('--ann-file', help='use only these images: COCO style JSON, or text file')
    parser.add_argument('--out', type=Path, required=True, help='JSON file to write')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing --out')
    parser.add_argument(
        '--detector',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='mmdet model that proposes (default: superpixels)',
    )
    parser.add_argument(
        '--device', type=usable_device, default='cpu', help='where the detector runs (default: cpu)'
    )
    parser.add_argument('--max-per-image', type=int, default=200)
    parser.add_argument('--min-area', type=float, default=64, help='square pixels (default: 64)')
    parser.add_argument('--max-area-fraction', type=float, default=0.95, help='of the image')
    parser.add_argument('--nms-iou', type=float, default=0.8, help='drop boxes that overlap more')
    parser.add_argument('--min-size', type=int, default=32, help='skip smaller images (pixels)')
    parser.add_argument(
        '--num-workers', type=int, default=0, help='processes for superpixels (default: this one)'
    )
    args = parser.parse_args(argv)
    if args.out.exists() and not args.overwrite:
        parser.error(f'expected a new file for --out, got {args.out}, which exists; --overwrite it')
    for path in args.detector or []:
        if not Path(path).is_file():
            parser.error(f'expected config and checkpoint after --detector, got no file {path!r}')
    if args.max_per_image < 1:
        parser.error(f'expected --max-per-image 1 or more, got {args.max_per_image}')
    missing = [name for name in ('skimage', 'sklearn') if importlib.util.find_spec(name) is None]
    if missing and not args.detector:
        parser.error(
            f'expected scikit-image and scikit-learn for superpixels, got no {missing}; do '
            f'{sys.executable} -m pip install scikit-image scikit-learn, or give --detector'
        )
    return args


def superpixel_rows(name: str, data_root: Path, keep: BoxFilter, min_size: int) -> Record:
    """Propose boxes for one image from superpixels."""
    from refineclip.datasets.image_io import BadImageError, read_image
    from refineclip.datasets.proposal_making import superpixel_proposals

    try:
        image = read_image(data_root / name, min_size)
    except BadImageError as error:
        return {'name': name, 'bad': error.reason}
    return as_record(name, keep(superpixel_proposals(image), image.width, image.height))


class DetectorRows:
    """Propose boxes with an mmdet model: whatever it returns as boxes and scores, of any class.

    Args:
        config: mmdet config file.
        checkpoint: Its weights.
        device: Torch device.
        data_root: Folder of images.
        keep: What to keep of them.
        min_size: Least width and height in pixels.
    """

    def __init__(
        self,
        config: str,
        checkpoint: str,
        device: str,
        data_root: Path,
        keep: BoxFilter,
        min_size: int,
    ) -> None:
        try:
            import refineclip.mmcv_ops  # noqa: F401, I001  (before mmdet is imported)
            from mmdet.apis import inference_detector, init_detector
        except ImportError as error:
            raise SystemExit(
                f'expected mmdet for --detector, got {type(error).__name__}: {error}; '
                '`python -m refineclip doctor` says what to install, or leave --detector out'
            ) from error
        # Naming a palette keeps mmdet from building the config's dataset just to look one up.
        model = init_detector(config, checkpoint, palette='random', device=device)
        self.infer = partial(inference_detector, model)
        self.data_root = data_root
        self.keep = keep
        self.min_size = min_size

    def __call__(self, name: str) -> Record:
        """Propose boxes for one image."""
        import numpy as np

        from refineclip.datasets.image_io import BadImageError, read_image

        try:
            image = read_image(self.data_root / name, self.min_size)
        except BadImageError as error:
            return {'name': name, 'bad': error.reason}
        # Pixels instead of the path, so that the boxes are of the image after its EXIF rotation.
        bgr = np.ascontiguousarray(np.asarray(image)[..., ::-1])
        found = self.infer(bgr).pred_instances.cpu()
        rows = np.column_stack([found.bboxes.numpy(), found.scores.numpy()])
        return as_record(name, self.keep(rows, image.width, image.height))


def as_record(name: str, rows: Any) -> Record:
    """Round rows (P, 5) to what JSON should hold."""
    boxes = [[round(v, 2) for v in row[:4]] + [round(row[4], 4)] for row in rows.tolist()]
    return {'name': name, 'boxes': boxes}


@contextmanager
def mapper(num_workers: int) -> Iterator[Callable[..., Iterable[Record]]]:
    """Give ``map``, or the same over processes."""
    if num_workers == 0:
        yield map
        return
    # Forking after torch has started its threads can hang.
    with multiprocessing.get_context('spawn').Pool(num_workers) as pool:
        yield partial(pool.imap, chunksize=4)


def resume_partial(path: Path, settings: dict[str, Any]) -> list[Record]:
    """Read the records of a stopped run, or start a new partial file.

    Raises:
        SystemExit: It was run with other settings.
    """
    content = path.read_bytes() if path.exists() else b''
    whole = content[: content.rfind(b'\n') + 1]  # a kill cuts the last line off
    records = [json.loads(line) for line in whole.splitlines()]
    if not records:
        path.write_text(json.dumps(settings) + '\n', encoding='utf-8')
        return []
    if records[0] != settings:
        raise SystemExit(
            f'expected {path} to be of the same settings, got {records[0]} instead of {settings}; '
            'delete it, or repeat its settings'
        )
    os.truncate(path, len(whole))
    return records[1:]


def propose_all(
    todo: list[str], propose: Callable[[str], Record], num_workers: int
) -> Iterator[Record]:
    """Yield the record of every image, and say how far it is."""
    started = last_line = time.monotonic()
    with mapper(num_workers) as run:
        for count, record in enumerate(run(propose, todo), start=1):
            if 'bad' in record:
                say(f'warning: skipped image {record["name"]}: {record["bad"]}')
            yield record
            now = time.monotonic()
            if now - last_line > SECONDS_BETWEEN_LINES or count == len(todo):
                last_line = now
                say(f'{count}/{len(todo)} images, {count / max(now - started, 1e-9):.1f} images/s')


def say(text: str) -> None:
    """Write a line of progress, apart from what a pipe reads."""
    sys.stderr.write(text + '\n')


def main(argv: list[str] | None = None) -> None:
    """Make the file."""
    args = parse_args(argv)
    from refineclip.datasets.image_folder import list_images, read_image_list
    from refineclip.datasets.proposal_making import BoxFilter
    from refineclip.encoders.weights.whole_files import write_whole

    if not args.data_root.is_dir():
        raise SystemExit(f'expected a folder after --data-root, got {args.data_root}')
    names = list_images(args.data_root) if args.ann_file is None else read_image_list(args.ann_file)
    keep = BoxFilter(args.min_area, args.max_area_fraction, args.nms_iou, args.max_per_image)
    settings = {'filter': vars(keep), 'min_size': args.min_size, 'detector': args.detector}
    propose: Callable[[str], Record] = partial(
        superpixel_rows, data_root=args.data_root, keep=keep, min_size=args.min_size
    )
    if args.detector:
        config, checkpoint = args.detector
        propose = DetectorRows(config, checkpoint, args.device, args.data_root, keep, args.min_size)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial_file = args.out.with_name(args.out.name + '.partial')
    records = resume_partial(partial_file, settings)
    known = {record['name'] for record in records}
    todo = [name for name in names if name not in known]
    with partial_file.open('a', encoding='utf-8') as file:
        for record in propose_all(todo, propose, 0 if args.detector else args.num_workers):
            file.write(json.dumps(record) + '\n')
            file.flush()
            records.append(record)
    good = {record['name']: record['boxes'] for record in records if 'boxes' in record}
    if not good:
        raise SystemExit(f'expected usable images in {args.data_root}, got {len(records)} bad ones')
    write_whole(args.out, lambda path: path.write_text(json.dumps(good), encoding='utf-8'))
    partial_file.unlink()
    boxes = sum(map(len, good.values()))
    say(
        f'{args.out}: {boxes} boxes of {len(good)} images ({boxes / len(good):.1f} each), '
        f'{len(records) - len(good)} images skipped'
    )


if __name__ == '__main__':
    main()
