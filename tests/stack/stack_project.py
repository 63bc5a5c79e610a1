"""A small project for stacks: a web app of the standard library, and the classic Compose file."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

APP = """\
import http.server
import os
import pathlib

LOG_DIR = os.environ.get("LOG_DIR", "/app/logs")
MODEL_PATH = os.environ.get("MODEL_PATH", "/app/model.h5")
os.makedirs(LOG_DIR, exist_ok=True)
MODEL = pathlib.Path(MODEL_PATH).read_text()
ANSWER = "one"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(os.path.join(LOG_DIR, "app.log"), "a") as log:
            log.write(self.path + "\\n")
        database = os.environ.get("DB_HOST", "no database")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{ANSWER} {MODEL} {database}".encode())


if __name__ == "__main__":
    http.server.HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""

# As people have it; only the port of the host and the database's image are the test's.
CLASSIC = """\
version: '3'

services:
  web:
    build: .
    ports: ["{port}:8080"]
    volumes: ["./:/app"]
    environment:
      - MODEL_PATH=/app/model.h5
      - DB_HOST=db
      - DB_PORT=5432
      - DB_NAME=predictions
      - DB_USER=user
      - DB_PASSWORD=password
    depends_on: [db]

  db:
    image: {image}
    environment:
      - POSTGRES_DB=predictions
      - POSTGRES_USER=user
      - POSTGRES_PASSWORD=password
    volumes:
      - db-data:/var/lib/postgresql/data

volumes:
  db-data:
"""

DOCKERFILE = """\
FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
ENV MODEL_PATH=/app/model.h5 LOG_DIR=/app/logs
EXPOSE 8080
CMD ["python", "app.py"]
"""


def make_project(folder: Path) -> Path:
    """Write the app and its model."""
    (folder / "app.py").write_text(APP)
    (folder / "model.h5").write_text("a model")
    (folder / "requirements.txt").write_text("")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return str(answer.read().decode())
