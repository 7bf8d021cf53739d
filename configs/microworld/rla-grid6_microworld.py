# Alignment alone with CLIPSelf's published grids: up to 6 x 6 cells, at most 20, most of them
# smaller than the objects of this world.
_base_ = ['./rla_microworld.py']

train_dataloader = dict(dataset=dict(region_sampler=dict(max_split=6, max_regions=20)))
