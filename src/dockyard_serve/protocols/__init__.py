"""The ways in which clients ask models: what is read and written, without any I/O.

`oip` is the Open Inference Protocol, `tfserving` TensorFlow Serving's and KServe's version 1,
`plain` JSON by the names of a model's inputs.
"""
