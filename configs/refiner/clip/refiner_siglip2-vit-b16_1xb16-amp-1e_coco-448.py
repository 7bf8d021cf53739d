_base_ = [
    '../../_base_/models/refiner-training.py',
    '../../_base_/datasets/coco_regions_random-crops.py',
    '../../_base_/schedules/refiner_1e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    # SigLIP's normalisation, times 255.
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    encoder=dict(model='ViT-B-16-SigLIP2', pretrained='webli'),
)
