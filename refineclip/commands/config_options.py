"""``--cfg-options KEY=VALUE``: what was typed, laid over a config.

mmengine's ``DictAction`` parses before the config is known, drops spaces and splits at every comma.
Here the config decides what a value may be, so a value that the shell quoted arrives as typed.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

_WORDS = {'None': None, 'True': True, 'true': True, 'False': False, 'false': False}
# A text is true, so that 'no' would switch on what it is meant to switch off.
_NO_BOOLEANS = ('', 'yes', 'no', 'on', 'off', 'true', 'false', 'none')
_QUOTES = ('"', "'")
_BRACKETS = {'[': ']', '(': ')', '{': '}'}


def add_config_options(parser: argparse.ArgumentParser, example: str) -> None:
    """Add ``--cfg-options``, whose values :func:`override` takes.

    Args:
        parser: The parser of a command.
        example: One KEY=VALUE for the help.
    """
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        type=_checked,
        metavar='KEY=VALUE',
        help=f'override config entries, e.g. {example}; a value in quotes is taken as it is',
    )


def read_config_file(path: Path, needed: Sequence[str] = ('model',)) -> Config:
    """Read a config.

    Args:
        path: The file.
        needed: What it has to hold.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or holds something else.
    """
    from mmengine.config import Config

    if not path.is_file():
        raise FileNotFoundError(f'expected a config file, got {path}, which does not exist')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is code, and its bases are files
        raise ValueError(
            f'{path}: expected a config, got {type(error).__name__} while it was read: {error}'
        ) from error
    if missing := [key for key in needed if cfg.get(key) is None]:
        raise ValueError(
            f'{path}: expected a config with {" and ".join(needed)}, got none of {missing}, only '
            f'{sorted(cfg)}'
        )
    return cfg


def override(cfg: Config, options: Sequence[str]) -> None:
    """Lay ``KEY=VALUE`` options over a config, see :func:`parse_value` for the values.

    Raises:
        ValueError: If an option is no ``KEY=VALUE``, or does not fit the config.
    """
    values = {}
    for option in options:
        try:
            key, _, text = _checked(option).partition('=')
        except argparse.ArgumentTypeError as error:
            raise ValueError(f'--cfg-options: {error}') from error
        try:
            values[key] = parse_value(text, _look_up(cfg, key))
        except ValueError as error:
            raise ValueError(f'--cfg-options: {key}: {error}') from error
    try:
        cfg.merge_from_dict(values)
    except (KeyError, TypeError) as error:  # a list is too short, or no dict is there to merge into
        raise ValueError(f'--cfg-options: {error.args[0]}') from error
    except AttributeError as error:  # mmengine counts only into lists of dicts
        raise ValueError(
            f'--cfg-options: expected whole lists of what is no dict, as in KEY=[a, b], got '
            f'{list(values)}'
        ) from error


def parse_value(text: str, current: object = None) -> Any:
    """Read a value as Python writes it, or else as the text that it is.

    - ``None``, ``True``, ``False`` (or small): those.
    - In quotes of its own (``"'2024'"``): what is between them, a text.
    - In brackets: the literal, or the list (tuple) of such values, ``[traffic light, a]``.
    - Where the config holds a text, anything else is a text.
    - ``7``, ``1e-4``: a number; ``a,b`` without space: a list; a text with spaces stays one, but
      is split at commas where the config holds a list.

    Args:
        text: What follows the ``=``.
        current: What the config holds under that key; None if nothing.

    Raises:
        ValueError: If brackets are not closed, or a boolean is spelled otherwise.
    """
    word = text.strip()
    if word in _WORDS:
        return _WORDS[word]
    if isinstance(current, bool) and word.lower() in _NO_BOOLEANS:
        raise ValueError(f'expected True or False, got {text!r}')
    if len(word) > 1 and word[0] in _QUOTES and word.find(word[0], 1) == len(word) - 1:
        return word[1:-1]
    literal = _literal(word)
    is_text = isinstance(current, str)
    if word and _BRACKETS.get(word[0]) == word[-1]:
        is_prompt = is_text and word == '{}'
        if isinstance(literal, list | tuple | dict | int | float) and not is_prompt:
            return literal
        if word[0] == '[':
            return _values(word[1:-1])
        if word[0] == '(' and not is_text and len(parts := _values(word[1:-1])) > 1:
            return tuple(parts)
    if is_text:
        return text
    if isinstance(literal, int | float) and '_' not in word:  # 2024_11 is a name
        return literal
    if isinstance(current, int | float) and word.lstrip('+-').lower() in ('inf', 'nan'):
        return float(word)
    may_split = isinstance(current, list | tuple) or not any(map(str.isspace, word))
    if may_split and len(_split(word)) > 1:
        return _values(word)
    return text


def _checked(option: str) -> str:
    """Return an option whose key is whole."""
    key, equals, _ = option.partition('=')
    if not equals or any(not part or part != part.strip() for part in key.split('.')):
        raise argparse.ArgumentTypeError(f'expected KEY=VALUE, got {option!r}')
    return option


def _look_up(cfg: Config, key: str) -> object:
    """What the config holds under a dotted key, None if nothing."""
    value: Any = cfg
    for part in key.split('.'):
        if isinstance(value, list | tuple):
            inside = part.isdigit() and int(part) < len(value)
            value = value[int(part)] if inside else None
        else:
            value = value.get(part) if hasattr(value, 'get') else None
    return value


def _literal(word: str) -> object:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _values(text: str) -> list[Any]:
    parts = _split(text)
    return [parse_value(part.strip()) for part in (parts if parts[-1].strip() else parts[:-1])]


def _split(text: str) -> list[str]:
    """Split at the commas that no bracket and no quotes hold.

    Raises:
        ValueError: If brackets or quotes are not closed.
    """
    parts: list[str] = []
    closing: list[str] = []
    start, open_quote = 0, ''
    for position, char in enumerate(text):
        if open_quote:
            open_quote = '' if char == open_quote else open_quote
        elif char in _QUOTES and not text[start:position].strip():  # not the apostrophe of a word
            open_quote = char
        elif char in _BRACKETS:
            closing.append(_BRACKETS[char])
        elif closing and char == closing[-1]:
            closing.pop()
        elif char == ',' and not closing:
            parts.append(text[start:position])
            start = position + 1
    if open_quote or (closing and ',' in text):
        raise ValueError(
            f'expected {open_quote or closing[-1]} to close what is open in {text!r}; put quotes '
            'around a text with commas'
        )
    return [*parts, text[start:]]
