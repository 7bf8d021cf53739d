# Control: the targets are the frozen map's own tokens, so that no close-up is ever seen.
_base_ = ['./_base_/stage1-pilot.py']

model = dict(target='image')
