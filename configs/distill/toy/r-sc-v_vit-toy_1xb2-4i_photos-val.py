# r-sc-v with a validation every two steps, on any folder in the COCO panoptic layout.
_base_ = ['./r-sc-v_vit-toy_1xb2-4i_photos.py', '../../_base_/evaluation/coco-panoptic.py']

train_cfg = dict(val_interval=2)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
