"""torch → ONNX → int8, and how far each step strays.

The graph is written node by node in the fused form that ONNX Runtime runs fastest (Attention, SkipLayerNormalization,
BiasGelu): the exporter's output changes with every torch release and the fuser only recognises some of them, while
these few nodes can be read beside model.py. One prompt a call, so there is no mask.

int8: weights symmetric per channel, activations by their range at run time (dynamic), word embeddings per row, by hand,
because the library would take one scale for the whole table. `REDUCE_RANGE` keeps weights to seven bits: on processors
without VNNI the eight-bit product saturates in silence and would route differently from the machine that measured it.
The heads are not part of the graph: `classifier.heads`.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer
from torch import Tensor

from classifier import bundle
from classifier.heads import Heads
from classifier.training.model import EPSILON, Router

OPSET = 17
REDUCE_RANGE = True
MICROSOFT = "com.microsoft"
LOOK = "look.product"
Weights = dict[str, npt.NDArray[Any]]


class Graph:
    """Nodes and weights of a network under construction."""

    def __init__(self) -> None:
        """Start empty."""
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add a constant and return its name."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Add an operation and return the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output


def write(model: Router, tokenizer: Tokenizer, out: Path) -> None:
    """Write the files that serve: everything of a bundle but its manifest."""
    write_onnx(model, out / bundle.MODEL, int8=True)
    heads(model).save(out / bundle.HEADS)
    tokenizer.save(str(out / bundle.TOKENIZER), pretty=False)


def write_onnx(model: Router, path: Path, *, int8: bool) -> None:
    """Write `model` to `path` as fp32 or, with `int8`, quantised."""
    if not int8:
        onnx.save(graph(model, int8_words=False), str(path))
        return
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source.onnx"
        onnx.save(graph(model, int8_words=True), str(source))
        quantize_dynamic(
            source,
            path,
            op_types_to_quantize=["MatMul", "Attention"],
            per_channel=True,
            reduce_range=REDUCE_RANGE,
            nodes_to_exclude=[LOOK],  # two columns: nothing to gain
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},  # it cannot infer through fused nodes
        )


def graph(model: Router, *, int8_words: bool) -> Any:
    """The encoder as an ONNX model: ids (1, T) int64 and asked (1,) int64 in, pooled states (1, any) out."""
    weights: Weights = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    g = Graph()
    x = _embed(g, weights, int8_words=int8_words)
    for index in range(model.shape.layers):
        x = _layer(g, {k.removeprefix(f"layers.{index}."): v for k, v in weights.items()}, x, index, model.shape.heads)
    _pool(g, weights, x)
    float32, int64 = TensorProto.FLOAT, TensorProto.INT64
    made = helper.make_graph(
        g.nodes,
        "router",
        [
            helper.make_tensor_value_info("ids", int64, [1, "tokens"]),
            helper.make_tensor_value_info("asked", int64, [1]),
        ],
        [helper.make_tensor_value_info("pooled", float32, [1, model.shape.width * (1 + model.shape.looks)])],
        g.weights,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8, producer_name="thriftgate")


def heads(model: Router) -> Heads:
    """The heads as they are served."""

    def array(tensor: Tensor) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = tensor.detach().cpu().numpy()
        return found

    return Heads(
        array(model.trunk.weight),
        array(model.trunk.bias),
        array(model.judge.weight),
        array(model.judge.bias),
        array(model.task.weight),
        array(model.task.bias),
        array(model.embed.weight),
    )


def int8_rows(table: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """A table as int8 with one scale a row: (rows, width) and (rows, 1)."""
    scales = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-8) / 127
    return np.rint(table / scales).astype(np.int8), scales.astype(np.float32)


def _embed(g: Graph, weights: Weights, *, int8_words: bool) -> str:
    """Words plus positions, normalised: (1, T, width)."""
    if int8_words:
        table, scales = int8_rows(weights["words.weight"])
        rows = g.node("Gather", [g.weight("words.int8", table), "ids"], "words.rows")
        scale = g.node("Gather", [g.weight("words.scales", scales), "ids"], "words.scale")
        words = g.node("Mul", [g.node("Cast", [rows], "words.float", to=TensorProto.FLOAT), scale], "words")
    else:
        words = g.node("Gather", [g.weight("words.table", weights["words.weight"]), "ids"], "words")
    g.node("Shape", ["ids"], "length", start=1)
    start = g.weight("zero", np.array([0], np.int64))
    places = g.node(
        "Slice", [g.weight("positions.table", weights["positions.weight"]), start, "length", start], "places"
    )
    summed = g.node("Add", [words, places], "summed")
    scale, bias = g.weight("norm.weight", weights["norm.weight"]), g.weight("norm.bias", weights["norm.bias"])
    return g.node("LayerNormalization", [summed, scale, bias], "embedded", epsilon=EPSILON)


def _pool(g: Graph, weights: Weights, x: str) -> None:
    """Means over the tokens that are asked, the even one and those of the looks, side by side: "pooled"."""
    asked = g.node("Slice", [x, "zero", "asked", g.weight("one", np.array([1], np.int64))], "asked.states")
    even = g.node("ReduceMean", [asked], "even", axes=[1], keepdims=1)
    product = g.node("MatMul", [asked, g.weight("look.weight", weights["look.weight"].T)], LOOK)
    scores = g.node("Add", [product, g.weight("look.bias", weights["look.bias"])], "look.scores")
    looks = g.node("Transpose", [g.node("Softmax", [scores], "look.shares", axis=1)], "looks", perm=[0, 2, 1])
    found = g.node("Concat", [even, g.node("MatMul", [looks, asked], "looked")], "means", axis=1)
    g.node("Flatten", [found], "pooled")


def _layer(g: Graph, weights: Weights, x: str, index: int, heads: int) -> str:
    """Attention and feed-forward, a residual and a norm after each."""

    def named(name: str, value: npt.NDArray[Any]) -> str:
        return g.weight(f"{index}.{name}", value)

    def linear(source: str, name: str) -> str:
        product = g.node(
            "MatMul", [source, named(f"{name}.weight", weights[f"{name}.weight"].T)], f"{index}.{name}.product"
        )
        return g.node("Add", [product, named(f"{name}.bias", weights[f"{name}.bias"])], f"{index}.{name}")

    def norm(residual: str, added: str, name: str) -> str:
        scale, shift = (named(f"{name}.{kind}", weights[f"{name}.{kind}"]) for kind in ("weight", "bias"))
        summed = g.node("Add", [residual, added], f"{index}.{name}.sum")
        return g.node("LayerNormalization", [summed, scale, shift], f"{index}.{name}", epsilon=EPSILON)

    qkv = [named("qkv.weight", weights["qkv.weight"].T), named("qkv.bias", weights["qkv.bias"])]
    seen = g.node("Attention", [x, *qkv], f"{index}.attention", MICROSOFT, num_heads=heads)
    x = norm(x, linear(seen, "mix"), "norm1")
    wide = g.node("Gelu", [linear(x, "up")], f"{index}.gelu", MICROSOFT)
    return norm(x, linear(wide, "down"), "norm2")
