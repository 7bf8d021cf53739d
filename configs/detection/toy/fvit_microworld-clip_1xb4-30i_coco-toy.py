_base_ = ['../../_base_/models/fvit_toy.py', '../_base_/runtime.py']
