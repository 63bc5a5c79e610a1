"""LitServe with its own batching (BATCH rows, WAIT seconds) or without."""

import os

import litserve
import numpy as np
import onnxruntime

BATCH = int(os.environ["BATCH"])


class Api(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    def decode_request(self, request):
        return np.array(request["x"], np.float32)[0]

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x):
        return self.session.run(None, {"x": x if BATCH > 1 else x[None]})[0]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"y": np.atleast_2d(output).tolist()}


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=int(os.environ["PORT"]), host="127.0.0.1", generate_client_file=False)
