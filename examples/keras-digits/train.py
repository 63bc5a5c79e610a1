"""Train the digit classifier and write model.h5 and digits.json.

    pip install tensorflow-cpu==2.21.0 scikit-learn && python train.py

The data are scikit-learn's 1,797 scanned digits, 8 x 8 pixels of 0 to 16. A quarter is held
out; 50 of those go into digits.json with their labels and this model's answers, for `verify`.
"""

import json
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent


def main() -> None:
    keras.utils.set_random_seed(1797)
    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.images, digits.target, test_size=0.25, stratify=digits.target, random_state=1797
    )
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.Rescaling(1 / 16),
            keras.layers.Reshape((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train_images, train_labels, epochs=30, batch_size=32, verbose=2)
    _, accuracy = model.evaluate(test_images, test_labels, verbose=0)
    print(f"held-out accuracy: {accuracy:.3f}")
    model.save(HERE / "model.h5", include_optimizer=False)

    sample = test_images[:50]
    answers = np.argmax(model.predict(sample, verbose=0), axis=1)
    rows = [
        {"label": int(label), "answer": int(answer), "image": image.astype(int).tolist()}
        for label, answer, image in zip(test_labels[:50], answers, sample, strict=True)
    ]
    lines = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "digits.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
