"""The inference server that goes into images: model files and Python classes as a web API.

Rules: nothing here imports dockyard, so that an image holds the server and nothing of the builder.
"""
