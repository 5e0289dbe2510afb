"""Pictures as bytes: conversion, enlargement, and labelled grids of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from headstudio.runstate import write_atomically

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def to_uint8(picture: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """RGB bytes of a picture in [0, 1]: values beyond are clipped, halves round to even, NaN becomes black."""
    bytes_ = (torch.nan_to_num(picture.detach()).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    return bytes_.permute(1, 2, 0).contiguous().cpu().numpy()


def enlarge(picture: UInt8[np.ndarray, "H W 3"], factor: int) -> UInt8[np.ndarray, "H2 W2 3"]:
    """The picture `factor` times as large (Lanczos): small pictures are otherwise hard to judge on a screen."""
    if factor == 1:
        return picture
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((width * factor, height * factor), Image.Resampling.LANCZOS))


def viewing_factor(size: int, wanted: int) -> int:
    """The smallest whole factor that brings `size` pixels to at least `wanted`."""
    return max(1, math.ceil(wanted / size))


def write_picture(picture: Float[Tensor, "3 H W"], path: Path, *, factor: int = 1) -> None:
    """One picture in [0, 1] as a PNG, written atomically."""
    write_atomically(path, _png(Image.fromarray(enlarge(to_uint8(picture), factor))))


def write_grid(
    rows: Sequence[Sequence[Float[Tensor, "3 H W"]]],
    path: Path,
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    factor: int = 1,
    gap: int = 4,
) -> None:
    """Rows of equally large pictures in [0, 1] as one picture on white, with labels at the left and on top.

    Args:
        rows: may differ in length; the places that lack a picture stay white.
        path: ends in .jpg for a JPEG; anything else is a PNG.
        row_labels, column_labels: one per row, one per column, or none at all; each of one or several lines.
        factor: how much every picture is enlarged.
        gap: pixels between pictures.

    Raises:
        ValueError: if there is no picture, sizes differ, or labels do not match.
    """
    tiles = [[enlarge(to_uint8(picture), factor) for picture in row] for row in rows]
    sizes = {tile.shape for row in tiles for tile in row}
    columns = max((len(row) for row in tiles), default=0)
    if len(sizes) != 1:
        raise ValueError(f"a grid needs pictures of one size, got {sorted(sizes)}")
    for labels, count in ((row_labels, len(tiles)), (column_labels, columns)):
        if len(labels) not in (0, count):
            raise ValueError(f"{len(labels)} labels for {count} rows or columns: {list(labels)}")
    height, width, _ = sizes.pop()
    font = ImageFont.load_default(size=max(11, min(20, width // 10)))
    left = gap + max(
        (math.ceil(max(font.getlength(line) for line in label.split("\n"))) + 2 * gap for label in row_labels),
        default=0,
    )
    ascent, descent = _line_height(font)
    line = math.ceil(ascent + descent)
    top = gap + max((line * len(label.split("\n")) + gap for label in column_labels), default=0)
    sheet = Image.new("RGB", (left + columns * (width + gap), top + len(tiles) * (height + gap)), _PAPER)
    for r, row in enumerate(tiles):
        for c, tile in enumerate(row):
            sheet.paste(Image.fromarray(tile), (left + c * (width + gap), top + r * (height + gap)))
    draw = ImageDraw.Draw(sheet)
    for c, label in enumerate(column_labels):
        for above, text in enumerate(reversed(label.split("\n"))):
            foot = top - gap - descent - above * line
            draw.text((left + c * (width + gap) + width // 2, foot), text, _INK, font, anchor="ms")
    for r, label in enumerate(row_labels):
        draw.text((left - 2 * gap, top + r * (height + gap) + height // 2), label, _INK, font, anchor="rm")
    write_atomically(path, _jpeg(sheet) if path.suffix == ".jpg" else _png(sheet))


def _line_height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[float, float]:
    """Ascent and descent in pixels."""
    if isinstance(font, ImageFont.FreeTypeFont):
        return font.getmetrics()
    return (12.0, 2.0)  # Pillow built without FreeType has one font of this size, and no anchors


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _jpeg(picture: Image.Image, *, quality: int = 85) -> bytes:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality, optimize=True)
    return content.getvalue()
