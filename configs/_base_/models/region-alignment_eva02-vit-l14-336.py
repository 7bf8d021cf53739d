# EVA-02-CLIP ViT-L/14-336: images of 896 px, crops of 336 px (CLIPSelf's scripts).
# EVA-CLIP's own file works too: model.student.pretrained=EVA02_CLIP_L_336_psz14_s6B.pt
_base_ = './region-alignment.py'

model = dict(
    data_preprocessor=dict(image_size=896, crop_size=336),
    student=dict(model='EVA02-L-14-336', pretrained='merged2b_s6b_b61k'),
    refiner=dict(
        checkpoint='work_dirs/refiner_eva02-vit-l14-336_1xb16-amp-1e_coco-448/epoch_1.pth',
    ),
)
