"""How the files in onnx_models/ are made and measured. Torch is needed here and nowhere else. In reading order:

dataset   rows of ../shared/data and of data/anchors.tsv → examples with targets; augmentation
model     the small encoder and its heads, in torch
base      the pre-trained weights: fewer layers, a smaller vocabulary
fit       one training run; calibration
export    torch → ONNX → int8
parity    how far the int8 file strays from the torch network
train     the whole of it in one command: `make train`
measure   the statistics: rank correlation, APGR, calibration error, bootstrap
boards    what is measured, and how
card      the manifest → CARD.md
evaluate  the boards, and the card rendered from them: `make evaluate`
"""
