_base_ = [
    '../../_base_/models/refiner-training.py',
    '../../_base_/datasets/coco_regions_random-crops.py',
    '../../_base_/schedules/refiner_1e.py',
    '../../_base_/default_runtime.py',
]

model = dict(encoder=dict(model='ViT-B-16-quickgelu', pretrained='openai'))
