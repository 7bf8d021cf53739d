# Alignment alone.
_base_ = ['./_base_/region-alignment_microworld.py']

model = dict(method='rla')
