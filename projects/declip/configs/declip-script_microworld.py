# The context weight of the published script, where the paper says 0.25.
_base_ = ['./declip_microworld.py']

model = dict(context=dict(loss_weight=0.1))
