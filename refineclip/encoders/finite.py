"""The check that keeps NaN and infinity out of every map, score and figure."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def check_finite(
    values: Tensor, what: str, sources: Sequence[object], model: str | None = None
) -> None:
    """Refuse values that are not finite: an argmax over NaN names a class as if it were sure.

    Args:
        values: (B, ...), one row per source.
        what: What they are, for the error: 'features', 'scores'.
        sources: B names, as image files.
        model: Whose they are, where several are compared.

    Raises:
        ValueError: Naming the first source with NaN or infinity, and what to do.
    """
    if values.isfinite().all():
        return
    finite = values.reshape(len(values), -1).isfinite().all(dim=1)
    first = sources[int((~finite).nonzero()[0])]
    whose = '' if model is None else f' from {model!r}'
    raise ValueError(
        f'expected finite {what}, got NaN or infinity{whose} for {first}; check the weights '
        '(was their training finite?) and the precision (float16 overflows where bfloat16 and '
        'float32 do not)'
    )
