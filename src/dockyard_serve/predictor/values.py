"""Types that JSON lacks, as parameters and results: images, arrays, files.

Rules:
- In a form they are uploaded files; in JSON a file is base64, plain or as a data URL, and an array
  nested lists. A `.npy` upload is read without pickle.
- Annotations are rewritten, at any depth of lists, unions and the like, into ones that pydantic
  checks. Pillow and NumPy are used only where the class names their types.
- Checking reads an image's header only; its pixels are decoded in the model's thread, not on the
  event loop.
"""

from __future__ import annotations

import base64
import binascii
import io
import sys
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import PlainValidator, WithJsonSchema

from dockyard_serve.marks import File

Kind = Literal["image", "array", "file", "plain"]

_IMAGE_SCHEMA = {
    "type": "string",
    "contentEncoding": "base64",
    "contentMediaType": "image/*",
    "description": "An image file in base64, or a data URL.",
}
_FILE_SCHEMA = {
    "type": "string",
    "contentEncoding": "base64",
    "contentMediaType": "application/octet-stream",
    "description": "A file in base64, or a data URL.",
}
_ARRAY_SCHEMA = {
    "anyOf": [{"type": "array"}, {"type": "number"}, {"type": "boolean"}],
    "description": "Nested lists of numbers.",
}
_MOST_PIXELS = 178_956_970  # Pillow's own limit of what is no bomb, twice over.


def image_class() -> Any:
    """Pillow's image class if the predictor's module has imported Pillow, else None."""
    module = sys.modules.get("PIL.Image")
    return getattr(module, "Image", None)


def kind_of(annotation: Any) -> Kind:
    """What a parameter is for a form: the type itself, or of the elements of a list or union."""
    if annotation is sys.modules.get("PIL.Image") or (
        isinstance(annotation, type) and annotation is image_class()
    ):
        return "image"
    if annotation is File or annotation is bytes:
        return "file"
    origin = typing.get_origin(annotation)
    if annotation is np.ndarray or origin is np.ndarray:
        return "array"
    inner: Sequence[Any] = typing.get_args(annotation)
    if origin is Annotated:
        inner = inner[:1]
    elif origin not in (typing.Union, types.UnionType, list, tuple, Sequence):
        return "plain"
    kinds = [kind_of(item) for item in inner if item not in (type(None), Ellipsis)]
    return next((kind for kind in kinds if kind != "plain"), "plain")


def checked(annotation: Any) -> Any:
    """The annotation with these types replaced by ones that pydantic can check."""
    kind = kind_of(annotation)
    if kind == "plain":
        return annotation
    origin = typing.get_origin(annotation)
    if origin is None or origin is np.ndarray:
        return _replacement(kind, annotation)
    arguments = typing.get_args(annotation)
    if origin is Annotated:
        return Annotated[(checked(arguments[0]), *arguments[1:])]
    rewritten = tuple(checked(item) for item in arguments)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[rewritten]  # noqa: UP007 - made at run time
    return origin[rewritten]


def _replacement(kind: Kind, annotation: Any) -> Any:
    if kind == "image":
        return Annotated[Any, PlainValidator(_to_image), WithJsonSchema(_IMAGE_SCHEMA)]
    if kind == "array":
        wanted = _element_type(annotation)
        return Annotated[
            Any,
            PlainValidator(lambda value: _to_array(value, wanted)),
            WithJsonSchema(_ARRAY_SCHEMA),
        ]
    convert = _to_bytes if annotation is bytes else _to_file
    return Annotated[Any, PlainValidator(convert), WithJsonSchema(_FILE_SCHEMA)]


def _element_type(annotation: Any) -> np.dtype[Any] | None:
    """The dtype of `NDArray[np.float32]`; None if it isn't said."""
    for argument in typing.get_args(annotation):
        for inner in (argument, *typing.get_args(argument)):
            if isinstance(inner, type) and issubclass(inner, np.generic):
                return np.dtype(inner)
    return None


def _to_image(value: Any) -> Any:
    """An image, its header read and its pixels not yet."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(value, Image.Image):
        return value
    data = _content(value, "an image")
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ValueError("isn't an image of a format that is known here") from None
    except Image.DecompressionBombError:
        raise ValueError("is an image of far too many pixels") from None
    except (OSError, ValueError, SyntaxError, OverflowError) as error:
        raise ValueError("is a damaged image") from error
    if image.width * image.height > _MOST_PIXELS:
        raise ValueError(f"has {image.width} x {image.height} pixels, more than is read")
    return image


def decoded(value: Any) -> Any:
    """The value with the pixels of images decoded and turned upright; raises ValueError."""
    kind = image_class()
    if kind is not None and isinstance(value, kind):
        from PIL import ImageOps

        try:
            value.load()
            return ImageOps.exif_transpose(value)
        except Exception as error:  # Decoders of dozens of formats raise what they like.
            raise ValueError("is a damaged image") from error
    if isinstance(value, list):
        return [decoded(item) for item in value]
    return tuple(decoded(item) for item in value) if type(value) is tuple else value


def _to_array(value: Any, wanted: np.dtype[Any] | None) -> np.ndarray[Any, Any]:
    if isinstance(value, np.ndarray):
        array = value
    elif isinstance(value, File):
        try:
            array = np.load(io.BytesIO(value.data), allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError("isn't a .npy file of plain numbers") from error
        if not isinstance(array, np.ndarray):
            raise ValueError("is an .npz archive; send one array as .npy")
    elif isinstance(value, list | int | float) or value is None:
        try:
            array = np.array(value)
        except (ValueError, OverflowError):
            raise ValueError("has lists of different lengths beside each other") from None
    else:
        raise ValueError("must be nested lists of numbers")
    if array.dtype.kind not in "biuf":
        raise ValueError("must hold numbers only")
    if wanted is None or array.dtype == wanted:
        return array
    if wanted.kind in "iu" and array.dtype.kind == "f":
        raise ValueError(f"must hold whole numbers ({wanted})")
    if wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise ValueError(f"must hold numbers from {limits.min} to {limits.max} ({wanted})")
    return array.astype(wanted)


def _to_file(value: Any) -> File:
    if isinstance(value, File):
        return value
    return File(data=_content(value, "a file"), media_type=_said_type(value))


def _to_bytes(value: Any) -> bytes:
    return _content(value, "a file")


def _content(value: Any, what: str) -> bytes:
    """The bytes of an upload, of base64, or of a data URL."""
    if isinstance(value, File):
        return value.data
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be {what}: base64 in JSON, or an uploaded file in a form")
    text = value
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise ValueError("must be a data URL in base64")
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"must be {what} in base64, or a data URL") from None


def _said_type(value: Any) -> str:
    if isinstance(value, str) and value.startswith("data:"):
        return value[5:].partition(";")[0] or "application/octet-stream"
    return "application/octet-stream"
