"""The floor: Starlette, orjson and the model's call, without validation, metrics or batching."""

import os

import numpy as np
import onnxruntime
import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)


async def predict(request):
    data = orjson.loads(await request.body())["x"]
    (y,) = session.run(None, {"x": np.array(data, np.float32)})
    return Response(
        orjson.dumps({"y": y}, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
    )


async def ready(request):
    return Response("ok")


app = Starlette(routes=[Route("/predict", predict, methods=["POST"]), Route("/healthz", ready)])
