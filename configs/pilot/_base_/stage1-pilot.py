# Stage 1: a Refiner of three blocks on the frozen encoder, 8 epochs of 128 photos.
_base_ = ['./coco-pilot.py']

model = dict(
    type='RefinerTraining',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='RefinerCLIP',
        model='timm/vit_small_patch14_dinov2',
        pretrained='weights/vit_small_patch14_dinov2.safetensors',
        dense_mode='plain',
        refiner=dict(num_blocks=3),
    ),
    loss=dict(
        type='RefineLoss',
        kind='infonce',
        negatives='other-images',
        temperature=0.2,
        # 224 negatives from the seven other photos of the batch.
        num_negatives_per_image=32,
        roi_size=8,
    ),
    max_regions_per_image=4,
    cache_dir='work_dirs/cache',
)
