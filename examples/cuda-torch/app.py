"""Answers POST /predict {"image": 8 rows of 8 numbers, 0 to 16} with the digit it shows.

On a GPU if the container is given one.
"""

import os
from pathlib import Path
from typing import Annotated

import torch
from fastapi import FastAPI
from pydantic import BaseModel, Field

from network import digit_network, to_input

MODEL_PATH = Path(os.environ.get("MODEL_PATH", Path(__file__).with_name("model.pt")))

Row = Annotated[list[Annotated[float, Field(ge=0, le=16)]], Field(min_length=8, max_length=8)]


class Picture(BaseModel):
    image: Annotated[list[Row], Field(min_length=8, max_length=8)]


class Answer(BaseModel):
    digit: int
    probabilities: list[float]


app = FastAPI(title="cuda-torch")
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
network = digit_network().to(device)
network.load_state_dict(torch.load(MODEL_PATH, weights_only=True, map_location=device))
network.eval()


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok", "torch": torch.__version__, "device": str(device)}


@app.post("/predict")
def predict(picture: Picture) -> Answer:
    with torch.inference_mode():
        probabilities = network(to_input([picture.image]).to(device)).softmax(dim=1)[0]
    return Answer(digit=int(probabilities.argmax()), probabilities=probabilities.tolist())
