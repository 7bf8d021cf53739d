"""Weight files: read without running code, recognised, renamed, and loaded whole or refused."""

from .checkpoint_file import read_checkpoint
from .checkpoint_guard import require_whole_checkpoint
from .loading import load_submodule, load_weights
from .weights_hash import weights_hash

__all__ = [
    'load_submodule',
    'load_weights',
    'read_checkpoint',
    'require_whole_checkpoint',
    'weights_hash',
]
