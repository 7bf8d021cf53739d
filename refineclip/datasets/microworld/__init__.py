"""The microworld: drawn images with exact masks and captions, to run and judge the whole chain.

It says nothing about real images. See docs/microworld.md.
"""

from refineclip.datasets.microworld.coco_layout import require_current, write_split
from refineclip.datasets.microworld.pairs import MicroworldPairs
from refineclip.datasets.microworld.scene import Microworld, Scene
from refineclip.datasets.microworld.vocabulary import KINDS, NAMED_KINDS, PROMPTS, SCENES, Kind

__all__ = [
    'KINDS',
    'NAMED_KINDS',
    'PROMPTS',
    'SCENES',
    'Kind',
    'Microworld',
    'MicroworldPairs',
    'Scene',
    'require_current',
    'write_split',
]
