"""Read and check the manifest and the statistics of a collected epoch."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mnist_exp.errors import UserError
from mnist_exp.files.names import PLAIN_NAME, is_plain_name
from mnist_exp.files.regular import read_json
from mnist_exp.gradients.array_files import NUMPY_DTYPES
from mnist_exp.run.formats import (
    COUNT,
    FINITE,
    STRING,
    ListOf,
    MapOf,
    Shape,
    check_format,
)
from mnist_exp.schema import NAME, Rule, integer, one_of, optional

FORMAT_VERSION = 3
MANIFEST = "manifest.json"
STATISTICS = "gradient_stats.json"
LARGEST = 1 << 26  # bytes of a manifest or of statistics
LONGEST_FILE_NAME = 255
SIDE = Rule(lambda value: COUNT.accepts(value) and 0 < value < 1 << 32, "a size of at least 1")
GEOMETRY = Rule(lambda value: COUNT.accepts(value) and value < 1 << 12, "a number of pixels")

ARRAY: Shape = {
    "file": Rule(lambda value: is_plain_name(value, LONGEST_FILE_NAME), PLAIN_NAME),
    "bytes": COUNT,
    "offset": COUNT,
    "crc32": COUNT,
    "shape": ListOf(SIDE),
    "dtype": one_of(*NUMPY_DTYPES),
}
CONVOLUTION: Shape = {
    "weight_shape": ListOf(SIDE),
    "stride": ListOf(SIDE),
    "dilation": ListOf(SIDE),
    "groups": SIDE,
    "padding": ListOf(GEOMETRY),
    "padding_mode": one_of("constant", "reflect", "replicate", "circular"),
}
PARAMETER: Shape = {
    "name": NAME,
    "shape": ListOf(SIDE),
    "form": one_of("dense", "outer_product", "convolution"),
    "arrays": MapOf(STRING),
    "convolution": Rule(lambda value: value is None or isinstance(value, dict), "null or keys"),
}
CONTENT: Shape = {
    "epoch": COUNT,
    "num_samples": integer(1),
    "names": ListOf(NAME),
    "shapes": MapOf(ListOf(SIDE)),
    "pixel_values": Rule(
        lambda value: (
            value is None
            or (isinstance(value, list) and len(value) == 256 and all(map(FINITE.accepts, value)))
        ),
        "null or 256 numbers",
    ),
    "pixel_arrays": ListOf(STRING),
    "arrays": MapOf(ARRAY),
    "columns": MapOf(ARRAY),
    "parameters": ListOf(PARAMETER),
    "derived": ListOf(
        {"name": STRING, "output_gradient": STRING, "input": STRING, "weight": STRING}
    ),
}
NUMBERS = MapOf(optional(FINITE))
QUANTILES: Shape = {key: optional(FINITE) for key in ("p5", "p25", "p50", "p75", "p95")}
SAMPLE: Shape = {
    "sample_id": COUNT,
    "label": COUNT,
    "predicted?": COUNT,  # earlier versions left it out
    "norm": optional(FINITE),
    "loss": optional(FINITE),
}
STATISTICS_CONTENT: Shape = {
    "num_samples": integer(1),
    "loss": NUMBERS,
    "total": {"norm": QUANTILES, "mean_gradient_norm": optional(FINITE)},
    "layers": MapOf({"norm": NUMBERS}),
    "parameters": MapOf({"norm": NUMBERS}),
    "classes": MapOf({"norm": NUMBERS}),
    "hardest": ListOf(SAMPLE),
}
# The parts of each form of gradients.
PARTS = {
    "dense": {"values"},
    "outer_product": {"output_gradient", "input"},
    "convolution": {"output_gradient", "input"},
}


def read_manifest(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a collected epoch's manifest and statistics, and check that its files are complete.

    Returns
    -------
    tuple of dict
        Manifest and statistics.

    Raises
    ------
    UserError
        If the directory is not a collected epoch, or a file is missing or damaged.
    """
    path = directory / MANIFEST
    manifest = _read(path)
    checksum = manifest.pop("crc32", None)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format_version {version!r}; this version reads {FORMAT_VERSION}."
        )
    if checksum != checksum_of(manifest):
        raise UserError(
            f"{path} is damaged: its content does not match its checksum. Collect the epoch again."
        )
    statistics = _read(directory / STATISTICS)
    if manifest.get("statistics_crc32") != checksum_of(statistics):
        raise UserError(
            f"{directory / STATISTICS} is damaged: its content does not match the checksum in "
            f"{MANIFEST}. Collect the epoch again."
        )
    check_format(manifest, CONTENT, path)
    check_format(statistics, STATISTICS_CONTENT, directory / STATISTICS)
    for mistake in _contradictions(manifest):
        raise UserError(f"{path} is damaged: {mistake}. Collect the epoch again.")
    check_files(directory, (*manifest["arrays"].values(), *manifest["columns"].values()))
    return manifest, statistics


def check_files(directory: Path, files: Sequence[Mapping[str, Any]]) -> None:
    """Check that every file of a manifest exists and has its full size.

    Raises
    ------
    UserError
        If a file is missing or has another size.
    """
    for file in files:
        array = directory / file["file"]
        if not array.is_file():
            raise UserError(f"{array} is missing. Collect the epoch again.")
        if array.stat().st_size != file["bytes"]:
            raise UserError(
                f"{array} is damaged: {array.stat().st_size} bytes instead of {file['bytes']}. "
                "Collect the epoch again."
            )


def _contradictions(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield contradictions between entries that each have the right format."""
    arrays, columns, shapes = manifest["arrays"], manifest["columns"], manifest["shapes"]
    for name, file in (arrays | columns).items():
        data = prod(file["shape"]) * np.dtype(NUMPY_DTYPES[file["dtype"]]).itemsize
        if not file["shape"] or file["offset"] + data > file["bytes"]:
            yield f"{name} cannot have shape {file['shape']} in {file['bytes']} bytes"
    if set(shapes) != set(manifest["names"]):
        yield "names and shapes do not name the same parameters"
        return
    yield from _wrong_columns(manifest)
    rows = {name: file["shape"][1:] for name, file in arrays.items()}
    if any(file["shape"][0] != manifest["num_samples"] for file in arrays.values()):
        yield "an array does not have one row per sample"
    for name in manifest["pixel_arrays"]:
        if manifest["pixel_values"] is None or arrays.get(name, {}).get("dtype") != "uint8":
            yield f"{name} holds no pixels"
    for array in reversed(manifest["derived"]):  # each may need the one after it
        shape = shapes.get(array["weight"], [])
        value = columns.get(f"{array['weight']}.value", {}).get("shape")
        sides = [[side] for side in shape]
        parts = [rows.get(array["output_gradient"]), rows.get(array["input"])]
        if len(shape) != 2 or value != [1, *shape] or parts != sides:
            yield f"{array['name']} does not follow from other arrays"
        else:
            rows[array["name"]] = sides[1]
    for parameter in manifest["parameters"]:
        yield from _wrong_parameter(parameter, shapes, rows)


def _wrong_columns(manifest: Mapping[str, Any]) -> Iterator[str]:
    samples, names = manifest["num_samples"], manifest["names"]
    expected = {
        "norms": ([samples, len(names)], "float32"),
        "losses": ([samples], "float32"),
        "labels": ([samples], "int64"),
        "sample_ids": ([samples], "int64"),
        **{f"{name}.mean": ([1, *manifest["shapes"][name]], "float32") for name in names},
    }
    if "cosines" in manifest["columns"]:
        expected["cosines"] = ([samples], "float32")
    for name, (shape, dtype) in expected.items():
        column = manifest["columns"].get(name)
        if column is None or (column["shape"], column["dtype"]) != (shape, dtype):
            yield f"{name} is not {shape} of {dtype}"


def _wrong_parameter(
    parameter: Mapping[str, Any], shapes: Mapping[str, Any], rows: Mapping[str, list[int]]
) -> Iterator[str]:
    name, form, shape = parameter["name"], parameter["form"], parameter["shape"]
    parts = {part: rows.get(array) for part, array in parameter["arrays"].items()}
    if shapes.get(name) != shape or set(parts) != PARTS[form]:
        yield f"{name} does not consist of {' and '.join(sorted(PARTS[form]))}"
        return
    known = {part: row for part, row in parts.items() if row is not None}
    if len(known) < len(parts):
        yield f"{name} is made of arrays that are not there"
    elif form == "dense":
        if prod(known["values"]) != prod(shape):
            yield f"{name} is not of shape {shape}"
    elif form == "outer_product":
        if [*known["output_gradient"], *known["input"]] != shape or len(shape) != 2:
            yield f"{name} is not of shape {shape}"
    else:
        check_format(parameter["convolution"], CONVOLUTION, f"the convolution of {name}")
        if not _fits(parameter["convolution"], shape, known["output_gradient"], known["input"]):
            yield f"{name} is not a convolution of shape {shape}"


def _fits(geometry: Mapping[str, Any], shape: list[int], after: list[int], row: list[int]) -> bool:
    """Return whether a 2-d convolution maps ``row`` to ``after``, both [C, H, W]."""
    lengths = [len(geometry[key]) for key in ("stride", "dilation", "padding")]
    ranks = [len(size) for size in (shape, after, row)]
    if lengths != [2, 2, 4] or ranks != [4, 3, 3] or geometry["weight_shape"] != shape:
        return False
    groups = geometry["groups"]
    left, right, top, bottom = geometry["padding"]
    padded = (row[1] + top + bottom, row[2] + left + right)
    spans = [d * (k - 1) + 1 for d, k in zip(geometry["dilation"], shape[2:], strict=True)]
    sides = [
        (size - span) // stride + 1
        for size, span, stride in zip(padded, spans, geometry["stride"], strict=True)
    ]
    channels = [shape[0], shape[1] * groups] == [after[0], row[0]] and after[0] % groups == 0
    return channels and sides == after[1:]


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path, LARGEST)
    except FileNotFoundError:
        raise UserError(
            f"{path.parent} is not a collected epoch: it has no {path.name}. Give the path of a "
            "directory such as outputs/<run>/gradients/epoch_1."
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    check_format(values, {}, path)
    return dict(values)


def checksum_of(values: Mapping[str, Any]) -> int:
    """Compute the CRC-32 of plain values, independent of the layout of their JSON file."""
    return zlib.crc32(json.dumps(values, indent=1).encode())
