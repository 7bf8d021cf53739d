"""Sets of prompts that turn class names into sentences for a CLIP text tower.

A template is a format string with ``{}`` for the name and, where the grammar needs it,
``{article}`` for 'a' or 'an'.
"""

from __future__ import annotations

from collections.abc import Sequence

from open_clip import OPENAI_IMAGENET_TEMPLATES


def _vild_templates() -> list[str]:
    """Compose the 63 prompts of ViLD (arXiv 2104.13921, appendix), with its 'This is' in front."""
    of_photo = (
        *('good', 'bad', 'bright', 'dark', 'low resolution', 'cropped', 'close-up'),
        *('jpeg corrupted', 'blurry', 'pixelated', 'black and white'),
    )
    of_thing = ('nice', 'cool', 'weird', 'small', 'large', 'clean', 'dirty', 'hard to see')
    made_of = ('a plastic', 'a toy', 'a plushie', 'a cartoon', 'an embroidered')
    phrases = [
        *(f'a photo of {which} {{}} in the scene' for which in ('{article}', 'the', 'one')),
        *(f'a photo of {which} {{}}' for which in ('{article}', 'my', 'the', 'one', 'many')),
        *(f'a {kind} photo of {which} {{}}' for kind in of_photo for which in ('{article}', 'the')),
        *(f'a photo of {which} {kind} {{}}' for kind in of_thing for which in ('a', 'the')),
        *(f'{kind} {{}}' for kind in made_of),
        *(f'the {kind.split()[1]} {{}}' for kind in made_of),
        *(f'a painting of {which} {{}}' for which in ('a', 'the')),
    ]
    return [
        *(f'There is {which} {{}} in the scene.' for which in ('{article}', 'the')),
        # itap: 'I took a picture', as photographers on the web write.
        *(f'itap of {which} {{}}.' for which in ('{article}', 'my', 'the')),
        *(f'This is {phrase}.' for phrase in phrases),
    ]


def _open_clip_templates(templates: Sequence[object]) -> list[str]:
    """Turn open_clip's prompt functions into format strings."""
    return [template('{}') for template in templates if callable(template)]


TEMPLATES: dict[str, list[str]] = {
    'photo': ['a photo of a {}'],
    'imagenet': _open_clip_templates(OPENAI_IMAGENET_TEMPLATES),
    'vild': _vild_templates(),
}


def get_templates(templates: str | Sequence[str]) -> list[str]:
    """Return a template set by name, or check templates that are given.

    Args:
        templates: Name of a set, a template, or a list of templates.

    Raises:
        ValueError: The name is unknown, the list is empty, or a template has no ``{}`` or other
            braces than it and ``{article}``.
    """
    if isinstance(templates, str) and '{' not in templates:
        if templates not in TEMPLATES:
            raise ValueError(
                f'templates: expected one of {sorted(TEMPLATES)} or format strings with {{}}, got '
                f'{templates!r}.'
            )
        return list(TEMPLATES[templates])
    if isinstance(templates, str):
        templates = [templates]
    without = [template for template in templates if '{}' not in template]
    if without or not templates:
        raise ValueError(
            f"templates: expected format strings that contain '{{}}', got {without or templates}."
        )
    for template in templates:
        try:
            fill_template(template, 'name')
        except (LookupError, ValueError) as error:
            raise ValueError(
                f'templates: expected no braces but {{}} and {{article}}, got {template!r}; write '
                'other braces twice'
            ) from error
    return list(templates)


def fill_template(template: str, name: str) -> str:
    """Put a class name into a template.

    As ViLD does, '_' becomes a space, '/' becomes ' or ', letters become small, and a final '.'
    goes; the article follows the first letter.
    """
    name = name.replace('_', ' ').replace('/', ' or ').lower().strip().rstrip('.')
    return template.format(name, article='an' if name[:1] in set('aeiou') else 'a')
