# EVA-02-CLIP ViT-B/16: images of 1024 px, crops of 224 px (CLIPSelf's scripts).
# EVA-CLIP's own file works too: model.student.pretrained=EVA02_CLIP_B_psz16_s8B.pt
_base_ = './region-alignment.py'

model = dict(
    data_preprocessor=dict(image_size=1024, crop_size=224),
    student=dict(model='EVA02-B-16', pretrained='merged2b_s8b_b131k'),
    refiner=dict(
        checkpoint='work_dirs/refiner_eva02-vit-b16_1xb16-amp-1e_coco-448/epoch_1.pth',
    ),
)
