"""BentoML with its adaptive batching, or without."""

import os

import bentoml
import numpy as np
import onnxruntime

BATCH = int(os.environ["BATCH"])


@bentoml.service(traffic={"timeout": 60})
class Model:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    @bentoml.api(batchable=BATCH > 1, max_batch_size=max(BATCH, 2), max_latency_ms=1000)
    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"x": x.astype(np.float32)})[0]
