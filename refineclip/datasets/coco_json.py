"""Reading json in the manner of COCO: what is needed is asked for by file, key and record."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

Record = dict[str, Any]

_SHOWN = 200  # characters of a record in an error
# What file systems allow.
_NAME_BYTES, _PATH_BYTES = 255, 4000


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _is_id(value: Any) -> bool:
    """Whether a value is a whole number or a text."""
    return type(value) is int or isinstance(value, str)


def _is_flag(value: Any) -> bool:
    """Whether a value is 0 or 1; the text '0' is not, which Python takes for true."""
    return isinstance(value, int) and value in (0, 1)


def is_box(value: Any) -> bool:
    """Whether a value is a list of four finite numbers."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def _is_side(value: Any) -> bool:
    return is_number(value) and value > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and '\0' not in value


def _is_file_name(value: Any) -> bool:
    """Whether a file could be called so; a system raises at longer names before it looks."""
    if not _is_text(value):
        return False
    parts = value.encode('utf-8', 'surrogatepass').split(b'/')
    return max(map(len, parts)) <= _NAME_BYTES and sum(map(len, parts)) <= _PATH_BYTES


# What a key holds in every file of the kind, where it is there.
_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(('id', 'image_id', 'category_id'), ('a whole number or a text', _is_id)),
    **dict.fromkeys(('width', 'height'), ('pixels, more than 0', _is_side)),
    **dict.fromkeys(
        ('file_name', 'coco_url'),
        (f'a text of at most {_NAME_BYTES} bytes between slashes', _is_file_name),
    ),
    **dict.fromkeys(('name', 'supercategory'), ('a text', _is_text)),
    'caption': ('a text', _is_text),
    'bbox': ('four numbers (x, y, width, height)', is_box),
    'area': ('a number', is_number),
    **dict.fromkeys(('isthing', 'iscrowd', 'ignore'), ('0 or 1', _is_flag)),
    'segments_info': ('a list', lambda value: isinstance(value, list)),
}


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
    path: str | Path,
    where: str,
    records: Sequence[Record],
    keys: Sequence[str],
    hint: str = '',
    start: int = 0,
) -> None:
    """Refuse records that lack what is needed.

    Args:
        path: The file, for the error.
        where: What holds the records, as 'categories'.
        records: The records.
        keys: What each of them must have.
        hint: What to do, for the error.
        start: Number of the first record, where these are a part.

    Raises:
        ValueError: Naming file, key and the first record without it.
    """
    for index, record in enumerate(records, start):
        lacking = [key for key in keys if not isinstance(record, dict) or record.get(key) is None]
        if lacking:
            raise ValueError(
                f'{path}: expected {_quoted(keys)} in each of {where}, got none of '
                f'{_quoted(lacking)} in {where}[{index}]: {shown(record)}{hint and "; " + hint}'
            )
        for key, value in record.items():
            what, fits = _VALUES.get(key, ('', None))
            if fits is not None and value is not None and not fits(value):
                raise ValueError(
                    f'{path}: expected {what} as {key!r} in each of {where}, got {shown(value)} in '
                    f'{where}[{index}]: {shown(record)}'
                )


def check_ids(path: str | Path, where: str, records: Sequence[Record], key: str = 'id') -> None:
    """Refuse ids of which some are numbers and some texts: 7 is not '7'.

    Raises:
        ValueError: Naming file, key and the first record that does not fit.
    """
    ids = [record.get(key) for record in records]
    texts = [isinstance(value, str) for value in ids]
    if any(texts) and not all(texts):
        index = texts.index(not texts[0])
        raise ValueError(
            f'{path}: expected {"a text" if texts[0] else "a number"} like the first as {key!r} in '
            f'each of {where}, got {shown(ids[index])} in {where}[{index}]: {shown(records[index])}'
        )


def check_images(path: str | Path, images: Sequence[Record]) -> None:
    """Refuse images without id, and ids that are written twice.

    Raises:
        ValueError: Naming the file and the record.
    """
    check_records(path, 'images', images, ('id',))
    check_ids(path, 'images', images)
    refuse_twins(path, 'image', images, 'id')


def check_matches(path: str | Path, images: Sequence[Record], rows: Sequence[Record]) -> None:
    """Warn of annotations whose ``image_id`` is of no image, an error if none is of one.

    Raises:
        ValueError: If there are annotations and images, and none fits.
    """
    known = {image['id'] for image in images}
    strange = [row['image_id'] for row in rows if row['image_id'] not in known]
    if not strange:
        return
    message = (
        f'{path}: expected annotations of its images, got {len(strange)} of {len(rows)} with an '
        f'image_id that none has (first: {strange[0]!r}; images begin with '
        f'{[image["id"] for image in images[:2]]})'
    )
    if known and len(strange) == len(rows):
        raise ValueError(f'{message}; take images and annotations from one file')
    print_log(f'{message} and are left out', logger='current', level=logging.WARNING)


def check_categories(path: str | Path, categories: Sequence[Record]) -> None:
    """Refuse categories without id or name, and one that is written twice.

    Raises:
        ValueError: Naming the file and the records.
    """
    check_records(path, 'categories', categories, ('id', 'name'))
    check_ids(path, 'categories', categories)
    for key in ('id', 'name'):
        refuse_twins(path, 'category', categories, key)


def refuse_twins(path: str | Path, what: str, records: Sequence[Record], key: str) -> None:
    """Refuse two records of one value under a key.

    Raises:
        ValueError: Naming the file and both records.
    """
    seen: dict[Any, Record] = {}
    for record in records:
        first = seen.setdefault(record[key], record)
        if first is not record:
            raise ValueError(
                f'{path}: expected each {what} once, got two of {key} {record[key]!r}: '
                f'{shown(first)} and {shown(record)}; remove or rename one of them'
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
