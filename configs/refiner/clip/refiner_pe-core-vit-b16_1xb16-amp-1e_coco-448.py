_base_ = [
    '../../_base_/models/refiner-training.py',
    '../../_base_/datasets/coco_regions_random-crops.py',
    '../../_base_/schedules/refiner_1e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    # PE-Core's own normalisation, times 255.
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    encoder=dict(model='PE-Core-B-16', pretrained='meta'),
)
