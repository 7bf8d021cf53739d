"""Images one by one: each by one of the processes, none twice, and their results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mmengine.dist import all_gather_object, get_dist_info

from .result_store import ResultStore

Track = Callable[[Iterable[Any]], Iterable[Any]]


class ImageStream:
    """The images (or batches of them) that this process has to see, and what it says of each.

    Image ``i`` belongs to process ``i % num_processes``. Results that are stored are read at the
    start; they should be small, since those of all images are held.

    Args:
        images: Number of images, or a name of each in the store.
        store: Where results are kept.
        track: Wraps the loop over images, to show progress.

    Attributes:
        missing: Images of this process that have no result yet.

    Examples:
        >>> stream = ImageStream(3)
        >>> for index in stream:
        ...     stream.put(index, 10 * index)
        >>> stream.gather()
        [0, 10, 20]
    """

    def __init__(
        self,
        images: int | Sequence[str],
        store: ResultStore | None = None,
        track: Track | None = None,
    ) -> None:
        self.keys = [str(i) for i in range(images)] if isinstance(images, int) else list(images)
        self.store, self.track = store, track
        rank, num_processes = get_dist_info()
        own = range(rank, len(self.keys), num_processes)
        self._results: dict[int, Any] = {}
        if store is not None:
            stored = {index: store.read(self.keys[index]) for index in own}
            self._results = {index: one for index, one in stored.items() if one is not None}
        self.missing = [index for index in own if index not in self._results]

    def __iter__(self) -> Iterator[int]:
        """The missing images, in order."""
        return iter(self.missing if self.track is None else self.track(self.missing))

    def put(self, index: int, result: Any) -> None:
        """Take, and keep, the result of an image."""
        if self.store is not None:
            self.store.write(self.keys[index], result)
        self._results[index] = result

    def own(self) -> list[Any]:
        """Results of this process's images, in order."""
        return [self._results[index] for index in sorted(self._results)]

    def gather(self) -> list[Any]:
        """Results of all images, in order, in every process, once each has seen its own."""
        found: dict[int, Any] = {}
        for part in all_gather_object(self._results):
            found |= part
        return [found[index] for index in range(len(self.keys))]
