"""Results of one image at a time: shared by processes, kept on disk, in the order of the images."""

from .image_stream import ImageStream
from .result_store import ResultStore, describe_file, digest

__all__ = ['ImageStream', 'ResultStore', 'describe_file', 'digest']
