r"""Gather the embeddings of what classes are called, where no text tower is at hand.

Example:
    python projects/synonyms/tools/gather_names.py \
        --label coco-80.npy refineclip/assets/vocabularies/coco.txt \
        --also lvis-1203.npy refineclip/assets/vocabularies/lvis.txt \
        --synonyms projects/synonyms/names/coco_in-words-of-lvis.txt \
        --out-label work_dirs/names_label.safetensors --out-rich work_dirs/names_rich.safetensors
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[3]))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    pair: dict[str, Any] = dict(nargs=2, metavar=('EMBEDDINGS', 'NAMES'), type=Path)
    parser.add_argument('--label', required=True, help='of the classes, in their order', **pair)
    parser.add_argument('--also', action='append', default=[], help='of other names', **pair)
    parser.add_argument(
        '--synonyms', type=Path, required=True, help='lines "class; name; ...", names of --also'
    )
    parser.add_argument('--out-label', type=Path, required=True, help='.safetensors to write')
    parser.add_argument('--out-rich', type=Path, required=True, help='.safetensors to write')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Read, average the names of each class, write."""
    args = parse_args(argv)

    from torch.nn import functional as F

    from refineclip.encoders.text.embedder import load_text_embeddings, save_text_embeddings
    from refineclip.encoders.text.name_files import read_names

    try:
        label, classes = load_text_embeddings(*args.label)
        rows = {name: row for files in args.also for row, name in _named(*files)}
        rich, found = label.clone(), 0
        for line in read_names(args.synonyms):
            title, *names = (part.strip() for part in line.split(';'))
            missing = [name for name in names if name not in rows]
            if title not in classes or missing:
                raise ValueError(
                    f'{args.synonyms}: expected a class of {args.label[1]} and names of --also, '
                    f'got {title!r} with {missing or names}'
                )
            rich[classes.index(title)] += sum(rows[name] for name in names)
            found += len(names)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    save_text_embeddings(args.out_label, label, classes)
    save_text_embeddings(args.out_rich, F.normalize(rich, dim=-1), classes)
    text = f'{args.out_rich}: {len(classes)} classes, {found} names besides their own\n'
    sys.stdout.write(text)


def _named(embeddings: Path, names: Path) -> list:
    from refineclip.encoders.text.embedder import load_text_embeddings

    matrix, known = load_text_embeddings(embeddings, names)
    return list(zip(matrix, known, strict=True))


if __name__ == '__main__':
    main()
