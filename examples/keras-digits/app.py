import logging
import os

import numpy as np
from flask import Flask, jsonify, request
from tensorflow.keras.models import load_model

MODEL_PATH = os.environ.get("MODEL_PATH", "/app/model.h5")
LOG_DIR = os.environ.get("LOG_DIR", "/app/logs")

os.makedirs(LOG_DIR, exist_ok=True)
logging.basicConfig(
    filename=os.path.join(LOG_DIR, "app.log"),
    level=logging.INFO,
    format="%(asctime)s %(levelname)s %(message)s",
)

app = Flask(__name__)
model = load_model(MODEL_PATH, compile=False)
logging.info("loaded %s", MODEL_PATH)


@app.route("/")
def index():
    return 'digit classifier: POST {"image": [[...8 x 8...]]} to /predict\n'


@app.route("/predict", methods=["POST"])
def predict():
    data = request.get_json(silent=True)
    try:
        image = np.array(data["image"], dtype="float32").reshape(1, 8, 8)
    except (KeyError, TypeError, ValueError):
        return jsonify(error='expected {"image": 8 rows of 8 numbers from 0 to 16}'), 400
    probabilities = model.predict(image, verbose=0)[0]
    digit = int(np.argmax(probabilities))
    logging.info("predicted %d (%.3f)", digit, probabilities[digit])
    return jsonify(digit=digit, probabilities=[float(p) for p in probabilities])


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=8080)
