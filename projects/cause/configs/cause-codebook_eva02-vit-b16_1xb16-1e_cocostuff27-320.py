# Stage 1 on COCO-Stuff: the concept codebook, shared by both heads.
_base_ = ['_base_/codebook_1e.py', '_base_/cocostuff27.py', '_base_/cause_runtime.py']
