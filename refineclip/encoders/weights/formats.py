"""Tell by its first bytes what a file that was given for weights really is."""

from __future__ import annotations

import enum
import pickletools
import zipfile
from pathlib import Path

_LFS = b'version https://git-lfs'
# What a file starts with that is surely no weights, what it is, and what to do.
_FOREIGN = (
    (_LFS, 'a Git LFS pointer, not the file itself; run `git lfs pull`, or download it'),
    (b'<', 'a web page (HTML or XML): the download ended at a login or an error; get it again'),
    (b'\x1f\x8b', 'a gzip archive; unpack it first'),
    (b'7z\xbc\xaf', 'a 7-zip archive; unpack it first'),
    (b'{', 'a JSON file (a config, or the index of a model in several files); give the weights'),
    (b'\x89HDF', 'an HDF5 file (Keras); convert it to safetensors'),
)


class Format(enum.Enum):
    """What weights come in."""

    SAFETENSORS = 'safetensors'
    TORCHSCRIPT = 'TorchScript archive'
    NPZ = 'npz'
    TORCH = 'file of torch.save'


def sniff_format(path: Path) -> Format:
    """Return the format of a file by its content; names lie.

    Raises:
        ValueError: If it is empty, or plainly something else; the message says what and what to do.
    """
    with path.open('rb') as file:
        head = file.read(512)
    if not head:
        raise ValueError(f'expected a weight file, got {path}, which is empty; get it again')
    if len(head) > 8 and head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < 2**32:
        return Format.SAFETENSORS
    for start, what in _FOREIGN:
        if head.lstrip(b'\xef\xbb\xbf \t\r\n').startswith(start):
            raise ValueError(f'expected a weight file, got {path}, which is {what}')
    if path.suffix == '.safetensors' and not head.startswith((b'PK', b'\x80')):
        return Format.SAFETENSORS
    if not zipfile.is_zipfile(path):
        return Format.TORCH
    names = _members(path)
    if any(name.endswith('constants.pkl') for name in names):
        return Format.TORCHSCRIPT
    if any(name.endswith('data.pkl') for name in names):
        return Format.TORCH
    if names and all(name.endswith('.npy') for name in names):
        return Format.NPZ
    raise ValueError(
        f'expected a weight file, got {path}, which is a zip archive of {names[:3]}; unpack it '
        'first'
    )


def describe_pickle(path: Path, found: str) -> str:
    """Say what a file holds that could run code, and how its owner converts it.

    Args:
        path: The file.
        found: Full name of the first class or function in it that is not allowed.
    """
    whole = _top_class(path)
    if whole is not None:
        what, take = f'a whole pickled object of {whole}', 'content.state_dict()'
    else:
        what, take = f'pickled {found}', "content['state_dict']"
    return (
        f'expected tensors only, got {what} in {path}, which could run code; if you trust the '
        f"file, convert it once: content = torch.load({str(path)!r}, 'cpu', weights_only=False); "
        f"torch.save({take}, 'weights.pt')"
    )


def _top_class(path: Path) -> str | None:
    """Class of the outermost object of a pickle, None if that is a dict or unknown."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith('data.pkl'))
        for operation, argument, _ in pickletools.genops(archive.read(name)):
            if operation.name == 'GLOBAL' and argument != 'collections OrderedDict':
                return str(argument).replace(' ', '.')
            if operation.name not in ('PROTO', 'FRAME'):
                return None
    return None


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    # Broken names in its directory are no BadZipFile.
    except Exception as error:
        raise ValueError(
            f'expected a weight file, got {path}, which is cut off or broken'
        ) from error
