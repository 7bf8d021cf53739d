"""Check the data of benchmarks: ``python tools/prepare/check.py a150,voc20 --data-root data``.

ADE20K-150 and the VOC benchmarks are read as they were published and need nothing else. A name of
both tables (a150, pc59, voc20) is checked with each label folder that it is evaluated on.
"""

from __future__ import annotations

import sys

from preparing import finish, make_parser


def main(argv: list[str] | None = None) -> int:
    """Check, and print a verdict for each benchmark."""
    parser = make_parser(__doc__, 'Exit status 1 unless all are complete.')
    parser.add_argument(
        'benchmarks', help='names separated by commas; training-free and cat-seg stand for tables'
    )
    args = parser.parse_args(argv)
    from refineclip.segmentation.benchmarks import parse_benchmarks

    try:
        benchmarks = parse_benchmarks(args.benchmarks)
    except ValueError as error:
        parser.error(str(error))
    # Tables share labels, and reading them takes minutes.
    labels = {(b.data_root, b.data_prefix['seg_map_path'], b.num_labels): b.key for b in benchmarks}
    return finish(list(labels.values()), args.data_root)


if __name__ == '__main__':
    sys.exit(main())
