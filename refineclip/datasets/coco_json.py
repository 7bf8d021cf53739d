"""Reading json in the manner of COCO: what is needed is asked for by file, key and record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]

_SHOWN = 200  # characters of a record in an error


def read_json(path: str | Path, wanted: str) -> Any:
    """Read a json file in any Unicode encoding, with or without a byte order mark.

    Args:
        path: The file.
        wanted: What it should hold, for the errors: 'captions', 'panoptic annotations'.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no json, or is cut off.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'expected a json of {wanted}, got {path}, which is no file')
    content = path.read_bytes()
    try:
        return json.loads(content)  # bytes: utf-8, utf-16 and utf-32 are told apart
    except json.JSONDecodeError as error:
        end = not content.strip() or error.pos >= len(error.doc.rstrip()) - 1
        cut = 'Unterminated' in error.msg or end
        what = 'ends too early (cut off while it was copied or downloaded?)' if cut else 'is none'
        raise ValueError(
            f'{path}: expected a json of {wanted}, got a file that {what}: {error}'
        ) from (error)
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError(
            f'{path}: expected a json of {wanted} in utf-8 or utf-16, got another file: {error}'
        ) from error


def read_coco_json(path: str | Path, wanted: str, keys: Sequence[str]) -> dict[str, list[Record]]:
    """Read an annotation file that must hold lists of records under some keys.

    Args:
        path: The file.
        wanted: What it should hold, for the errors.
        keys: Keys of the lists; others may be there or not.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no json, or of another kind.
    """
    content = read_json(path, wanted)
    if not isinstance(content, dict):
        raise ValueError(
            f'{path}: expected a json of {wanted} ({_quoted(keys)}), got a {type(content).__name__}'
        )
    for key in keys:
        if not isinstance(content.get(key), list):
            got = f'{type(content[key]).__name__}' if key in content else f'only {sorted(content)}'
            raise ValueError(
                f'{path}: expected a json of {wanted} with a list of {key!r}, got {got}'
            )
    return content


def check_records(
    path: str | Path, where: str, records: Sequence[Record], keys: Sequence[str], hint: str = ''
) -> None:
    """Refuse records that lack what is needed.

    Args:
        path: The file, for the error.
        where: What holds the records, as 'categories'.
        records: The records.
        keys: What each of them must have.
        hint: What to do, for the error.

    Raises:
        ValueError: Naming file, key and the first record without it.
    """
    for index, record in enumerate(records):
        lacking = [key for key in keys if not isinstance(record, dict) or record.get(key) is None]
        if lacking:
            raise ValueError(
                f'{path}: expected {_quoted(keys)} in each of {where}, got none of '
                f'{_quoted(lacking)} in {where}[{index}]: {shown(record)}{hint and "; " + hint}'
            )


def check_categories(path: str | Path, categories: Sequence[Record]) -> None:
    """Refuse categories without id or name, and one that is written twice.

    Raises:
        ValueError: Naming the file and the records.
    """
    check_records(path, 'categories', categories, ('id', 'name'))
    for key in ('id', 'name'):
        seen: dict[Any, Record] = {}
        for category in categories:
            first = seen.setdefault(category[key], category)
            if first is not category:
                raise ValueError(
                    f'{path}: expected each category once, got two of {key} {category[key]!r}: '
                    f'{shown(first)} and {shown(category)}; remove or rename one of them'
                )


def shown(record: Any) -> str:
    """A record, cut to what a sentence can hold."""
    text = json.dumps(record, default=str, ensure_ascii=True)
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]} ...'


def file_name_of(image: Record, parts: int = 1) -> str | None:
    """The file of an image record: ``file_name``, or the last parts of LVIS's ``coco_url``."""
    name = image.get('file_name')
    url = image.get('coco_url')
    return name or ('/'.join(url.split('/')[-parts:]) if url else None)


def _quoted(keys: Sequence[str]) -> str:
    return ', '.join(repr(key) for key in keys)
