_base_ = './r-sc-v_dinov2-vit-s14_1xb16-amp-1k_photos-518.py'

model = dict(
    student=dict(model='timm/vit_base_patch14_dinov2'),
    refiner=dict(
        checkpoint='work_dirs/refiner_dinov2-vit-b14_1xb16-amp-1k_photos-518/iter_1000.pth',
    ),
)
