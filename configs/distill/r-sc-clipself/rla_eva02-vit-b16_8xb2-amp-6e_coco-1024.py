# Region-language alignment alone, which is CLIPSelf.
_base_ = './r-sc-clipself_eva02-vit-b16_8xb2-amp-6e_coco-1024.py'

model = dict(method='rla')
