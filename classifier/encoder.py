"""The ONNX session: token ids in, their pooled state out.

One session serves all threads (`InferenceSession.run` is thread-safe). One prompt a call and no padding: activations
are quantised by the range found at run time, so in a shared batch a prompt's verdict would depend on its neighbours,
and below 128 tokens one core is busy with one prompt anyway. Spinning is off: left on, the pool's threads burn a core
for seconds after every call.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Floats = npt.NDArray[np.float32]


class Encoder:
    """A loaded network. `threads` is the number of cores one call may use."""

    def __init__(self, model: Path, threads: int = 1) -> None:
        """Load `model`. Raises whatever onnxruntime raises for a file it cannot run."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors only: the gateway's log is JSON lines, not ours to disturb
        # This fusion is a loss on the CPU: 130 µs a norm at 64 tokens where Add and LayerNormalization take 25 (1.32,
        # 2026-11)
        slow = ["SkipLayerNormFusion"]
        providers = ["CPUExecutionProvider"]
        self._session = ort.InferenceSession(str(model), options, providers=providers, disabled_optimizers=slow)
        self._name = model.name
        self._threads = threads

    def __repr__(self) -> str:
        return f"<Encoder {self._name} {self._threads} thread{'s' if self._threads > 1 else ''}>"

    def __call__(self, ids: list[int], asked: int) -> Floats:
        """The mean state (width,) of the first `asked` of `ids`, both as `features.token_ids` gives them."""
        feeds = {"ids": np.array([ids], dtype=np.int64), "asked": np.array([asked], dtype=np.int64)}
        pooled: Floats = self._session.run(["pooled"], feeds)[0][0]
        return pooled
