"""Answers POST /predict {"image": 8 rows of 8 numbers, 0 to 16} with the digit it shows."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

MODEL_PATH = Path(os.environ.get("MODEL_PATH", Path(__file__).with_name("model.onnx")))

session = onnxruntime.InferenceSession(MODEL_PATH, providers=["CPUExecutionProvider"])


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok", "onnxruntime": onnxruntime.__version__})


async def predict(request: Request) -> JSONResponse:
    try:
        image = np.array((await request.json())["image"], dtype=np.float32).reshape(1, 8, 8)
    except (KeyError, TypeError, ValueError):
        message = 'expected {"image": 8 rows of 8 numbers from 0 to 16}'
        return JSONResponse({"error": message}, status_code=400)
    (probabilities,) = session.run(None, {"images": image})
    digit = int(probabilities[0].argmax())
    return JSONResponse({"digit": digit, "probabilities": probabilities[0].tolist()})


app = Starlette(
    routes=[
        Route("/health", health),
        Route("/predict", predict, methods=["POST"]),
    ]
)
