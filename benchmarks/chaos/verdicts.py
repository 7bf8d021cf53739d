"""What became of one hostile input."""

from __future__ import annotations

import enum
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from refineclip.datasets.image_io import BadImageError

ROOT = Path(__file__).resolve().parents[2]
# Whoever raises from here has chosen the words.
_OURS = ('refineclip', 'tools', 'projects')
_REFUSALS = (ValueError, OSError, BadImageError, KeyError, RuntimeError)


class Verdict(enum.Enum):
    """Good: the first two."""

    LOADED = 'loaded'
    REFUSED = 'refused with a sentence'
    CRASHED = 'crashed'
    WRONG = 'silently wrong'


@dataclass(frozen=True)
class Case:
    """One input and who reads it.

    Attributes:
        name: What was done to it.
        read: Reads it as the package does.
        wrong: Says what is wrong with what was read; empty if nothing.
    """

    name: str
    read: Callable[[], Any]
    wrong: Callable[[Any], str]


@dataclass(frozen=True)
class Outcome:
    """One row of the report."""

    kind: str
    name: str
    verdict: Verdict
    detail: str = ''

    @property
    def bad(self) -> bool:
        """Whether the campaign fails by it."""
        return self.verdict in (Verdict.CRASHED, Verdict.WRONG)


def judge(kind: str, case: Case) -> Outcome:
    """Read a case, quietly, and say what came of it."""
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter('ignore')
            found = case.read()
    except SystemExit as end:
        said = end.code == 2 or isinstance(end.code, str)
        verdict = Verdict.REFUSED if said else Verdict.CRASHED
        return Outcome(kind, case.name, verdict, str(end.code))
    except Exception as error:
        verdict = Verdict.REFUSED if is_sentence(error) else Verdict.CRASHED
        where = traceback.extract_tb(error.__traceback__)[-1]
        detail = f'{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})'
        return Outcome(kind, case.name, verdict, detail)
    reason = case.wrong(found)
    return Outcome(kind, case.name, Verdict.WRONG if reason else Verdict.LOADED, reason)


def is_sentence(error: BaseException) -> bool:
    """Whether an error is of a type and in words that this package chose."""
    if isinstance(error, _REFUSALS) and ' ' in str(error) and _raised_by_us(error):
        return True
    # mmengine's registry names what it does not know, and raises the error of what it builds anew.
    if isinstance(error, KeyError) and 'registry' in _last_file(error):
        return True
    inner = error.__cause__ or error.__context__
    return inner is not None and 'registry' in _last_file(error) and is_sentence(inner)


def _raised_by_us(error: BaseException) -> bool:
    path = Path(_last_file(error))
    return path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in _OURS


def _last_file(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].filename if frames else ''
