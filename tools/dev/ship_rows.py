"""Take the refined rows that the page opens with from a demo: its checkpoints, in half precision.

python tools/dev/ship_rows.py work_dirs/demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import save_file

from refineclip.commands.app.world import MODEL, SHIPPED_ROWS, rows
from refineclip.evaluation.encoders import load_encoders


def ship(demo: Path, folder: Path) -> None:
    """Write one file per row, without optimizer and teacher.

    Args:
        demo: Folder of a demo that was no quick one; its first seed is taken.
        folder: Where the files go.

    Raises:
        ValueError: If a row was not trained there.
    """
    found = rows(demo, {})
    if lacking := [row for row in SHIPPED_ROWS if row not in found]:
        raise ValueError(
            f'expected the runs of `python -m refineclip demo` in {demo}, got none of '
            f'{", ".join(lacking)}'
        )
    folder.mkdir(parents=True, exist_ok=True)
    for row, file in SHIPPED_ROWS.items():
        encoder = load_encoders({row: found[row]}, MODEL)[row]
        state = {key: value.half().contiguous() for key, value in encoder.state_dict().items()}
        save_file(state, folder / file.name)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('demo', type=Path, help='folder of the demo')
    parser.add_argument('--out', type=Path, help='folder to write (default: that of the package)')
    args = parser.parse_args()
    ship(args.demo, args.out or next(iter(SHIPPED_ROWS.values())).parent)


if __name__ == '__main__':
    main()
