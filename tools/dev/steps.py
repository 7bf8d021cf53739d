"""Running a chain of named steps: what is printed, what is timed, how a failure is told."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAST_LINES = 60  # of a failed command's hidden output
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'refineclip'


class StepError(Exception):
    """A step failed; the message says what to do where that is known.

    Args:
        message: What happened.
        output: What the command printed.
        details: Lines that the end of the chain says again.
    """

    def __init__(self, message: str, output: str = '', details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.output, self.details = output, details


def say(text: str) -> None:
    """Print one line at once, also into a pipe."""
    print(f'-- {text}', flush=True)


def run(
    command: Sequence[str | Path],
    cwd: Path = ROOT,
    extra_env: Mapping[str, str] | None = None,
    show: Callable[[str], str | None] = str,
) -> str:
    """Run a command, pass its output on line by line and return it.

    Args:
        command: Program and arguments.
        cwd: Folder to run it in.
        extra_env: Environment variables beside those of this process.
        show: What to print for a line; None prints nothing, and the last lines if it fails.

    Raises:
        StepError: When the command exits with another status than 0.
    """
    env = {**os.environ, 'PYTHONUNBUFFERED': '1', **(extra_env or {})}
    words = [str(word) for word in command]
    lines = []
    with subprocess.Popen(
        words, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if (shown := show(line)) is not None:
                print(shown, end='', flush=True)
    if process.returncode != 0:
        if show is not str:
            print(*lines[-LAST_LINES:], sep='', end='', flush=True)
        message = f'exit status {process.returncode} from: {" ".join(words)}'
        raise StepError(message, ''.join(lines))
    return ''.join(lines)


def fingerprint(*parts: str | Path) -> str:
    """Hash texts and the contents of files, to tell whether something has to be done again."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        digest.update(b'\0')
    return digest.hexdigest()[:16]


def is_stamped(stamp: Path, value: str) -> bool:
    """Whether a step finished earlier with the same inputs."""
    return stamp.is_file() and stamp.read_text() == value


def write_stamp(stamp: Path, value: str) -> None:
    """Note that a step finished with these inputs."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(value)


class Chain:
    """Runs steps in order and sums them up in one last line.

    Args:
        title: The command that the user typed, e.g. ``make test``.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.started = time.monotonic()
        self.failed: list[str] = []
        self.details: list[str] = []

    def must(self, name: str, step: Callable[[], object]) -> object:
        """Run a step that the rest depends on; its failure ends the chain."""
        result = self.check(name, step)
        if self.failed:
            self.finish('')
        return result

    def check(self, name: str, step: Callable[[], object]) -> object:
        """Run a step; after a failure the chain goes on, so that one run shows all failures."""
        say(name)
        started = time.monotonic()
        try:
            result = step()
        except (StepError, OSError, subprocess.CalledProcessError) as error:
            say(f'FAILED: {name}: {error}')
            self.failed.append(name)
            self.details += getattr(error, 'details', ())
            return None
        say(f'done in {duration(time.monotonic() - started)}: {name}')
        return result

    def finish(self, success: str) -> None:
        """Print the closing line and leave with status 0 or 1."""
        spent = duration(time.monotonic() - self.started)
        if self.failed:
            print(*self.details, sep='\n', end='\n' * bool(self.details), flush=True)
            print(f'{self.title}: FAILED after {spent}: {"; ".join(self.failed)}', flush=True)
            sys.exit(1)
        print(f'{self.title}: {success} in {spent}', flush=True)
        sys.exit(0)


def duration(seconds: float) -> str:
    """Write a time in the unit that a person would use."""
    return f'{seconds:.0f} s' if seconds < 90 else f'{seconds / 60:.0f} min'


def main(chain: Callable[[], None]) -> None:
    """Start a chain; Ctrl-C ends it without a stack trace."""
    try:
        chain()
    except KeyboardInterrupt:
        print('interrupted', flush=True)
        sys.exit(130)
