"""Train the digit classifier and write model.pt2 and digits.json.

    pip install torch==2.13.0 numpy scikit-learn && python train.py

The data are scikit-learn's 1,797 scanned digits, 8 x 8 pixels of 0 to 16. A quarter is held
out; 50 of those go into digits.json with their labels and this model's answers, for `verify`.
What is served is the whole program, from pixels to probabilities; the weights alone are for
../cuda-torch, which has code of its own.
"""

import json
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from network import digit_network, to_input

WEIGHTS = "../cuda-torch/model.pt"
HERE = Path(__file__).resolve().parent


class Served(torch.nn.Module):
    """From images (n, 8, 8) of 0 to 16 to probabilities (n, 10)."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        inputs = images.reshape(-1, 1, 8, 8) / 16
        return {"probabilities": self.network(inputs).softmax(dim=1)}


def export(network: torch.nn.Module) -> None:
    """Write the program, for any number of images at once."""
    batch = torch.export.Dim("batch", min=1, max=256)
    example = (torch.zeros(2, 8, 8),)
    program = torch.export.export(Served(network).eval(), example, dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        # Where on this machine each line of code lies is nothing for whoever gets the file.
        node.meta.pop("stack_trace", None)
    torch.export.save(program, HERE / "model.pt2")


def main() -> None:
    torch.manual_seed(1797)
    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.images, digits.target, test_size=0.25, stratify=digits.target, random_state=1797
    )
    inputs, labels = to_input(train_images.tolist()), torch.tensor(train_labels)
    network = digit_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for epoch in range(40):
        for batch in torch.randperm(len(inputs)).split(32):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(inputs[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: last loss {loss.item():.4f}")

    network.eval()
    with torch.inference_mode():
        answers = network(to_input(test_images.tolist())).argmax(dim=1)
    accuracy = (answers == torch.tensor(test_labels)).float().mean().item()
    print(f"held-out accuracy: {accuracy:.3f}")
    torch.save(network.state_dict(), HERE / WEIGHTS)
    export(network)

    rows = [
        {"label": int(label), "answer": int(answer), "image": image.astype(int).tolist()}
        for label, answer, image in zip(
            test_labels[:50], answers[:50], test_images[:50], strict=True
        )
    ]
    lines = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "digits.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
