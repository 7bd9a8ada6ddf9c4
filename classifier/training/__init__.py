"""How the files in onnx_models/ are made and measured. Torch is needed here and nowhere else. In reading order:

data/     our own set of judged prompts: rubric, card, format
own       its checks and its card
dataset   our own set and files of outcomes → examples with targets; augmentation
perturb   ways to say the same thing differently
labels    the rubric's words that are not served
model     the small encoder and its heads, in torch
teacher   meaning, as the whole of the base network sees it
base      the pre-trained weights: fewer layers, a smaller vocabulary
fit       one training run; calibration
export    torch → ONNX → int8
parity    how far the int8 file strays from the torch network
train     the whole of it in one command: `make train`
measure   the statistics: rank correlation, APGR and kin, AUC, calibration error, bootstrap
ngram     the rival: words and letters
routellm  RouteLLM's evaluation from a clone of its repository
frontier  networks of other shapes: quality against time
boards    what is measured, and how
card      the manifest → CARD.md
evaluate  the boards, and the card rendered from them: `make evaluate`
"""
