"""A reader and evaluator of .glb files, written after the specification of glTF 2.0; strict where ours must be."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

COMPONENT = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Gltf:
    """A .glb: its chunks, accessors, and the vertices that a program draws."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", content)
        assert (magic, version, length) == (b"glTF", 2, len(content))
        size, kind = struct.unpack_from("<I4s", content, 12)
        assert kind == b"JSON"
        self.json = json.loads(content[20 : 20 + size])
        binary, kind = struct.unpack_from("<I4s", content, 20 + size)
        assert kind == b"BIN\0"
        self.binary = content[28 + size : 28 + size + binary]
        assert size % 4 == binary % 4 == 0

    def _view(self, index: int, dtype: str, count: int, offset: int = 0) -> np.ndarray:
        view = self.json["bufferViews"][index]
        assert view["byteOffset"] % 4 == 0
        assert count * np.dtype(dtype).itemsize <= view["byteLength"]
        return np.frombuffer(self.binary, dtype, count, view["byteOffset"] + offset)

    def array(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        width, dtype = WIDTH[accessor["type"]], COMPONENT[accessor["componentType"]]
        values = np.zeros((accessor["count"], width), dtype)
        if "bufferView" in accessor:
            offset = accessor.get("byteOffset", 0)
            values = self._view(accessor["bufferView"], dtype, values.size, offset).reshape(values.shape).copy()
        if sparse := accessor.get("sparse"):
            places = self._view(
                sparse["indices"]["bufferView"], COMPONENT[sparse["indices"]["componentType"]], sparse["count"]
            )
            assert (np.diff(places.astype(int)) > 0).all()
            values[places] = self._view(sparse["values"]["bufferView"], dtype, sparse["count"] * width).reshape(
                -1, width
            )
        if "min" in accessor:
            assert accessor["min"] == values.min(0).tolist()
            assert accessor["max"] == values.max(0).tolist()
        return values

    @property
    def primitive(self) -> Any:
        (primitive,) = self.json["meshes"][0]["primitives"]
        return primitive

    def attribute(self, name: str) -> np.ndarray:
        return self.array(self.primitive["attributes"][name])

    def vertices(self, weights: Any = None, nodes: dict[int, dict[str, Any]] | None = None) -> np.ndarray:
        """Morphed and skinned, in metres; what is not given is as the file has it at rest."""
        weights = self.json["meshes"][0]["weights"] if weights is None else weights
        points = self.attribute("POSITION").astype(np.float64)
        for weight, target in zip(weights, self.primitive["targets"], strict=True):
            points = points + weight * self.array(target["POSITION"])
        skin = self.json["skins"][0]
        inverse = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        placed = self._globals(nodes or {})
        joints = np.stack([placed[node] @ bound for node, bound in zip(skin["joints"], inverse, strict=True)])
        ids, shares = self.attribute("JOINTS_0"), self.attribute("WEIGHTS_0").astype(np.float64)
        assert np.allclose(shares.sum(1), 1.0, atol=1e-6)
        moved = np.einsum("vk,vkij->vij", shares, joints[ids])
        return np.asarray(np.einsum("vij,vj->vi", moved[:, :3, :3], points) + moved[:, :3, 3])

    def _globals(self, changed: dict[int, dict[str, Any]]) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}

        def walk(index: int, above: np.ndarray) -> None:
            node = self.json["nodes"][index] | changed.get(index, {})
            local = np.eye(4)
            local[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
            local[:3, 3] = node.get("translation", [0, 0, 0])
            found[index] = above @ local
            for child in node.get("children", []):
                walk(child, found[index])

        for root in self.json["scenes"][self.json["scene"]]["nodes"]:
            walk(root, np.eye(4))
        return found

    def frame(self, number: int) -> np.ndarray:
        """The vertices at a key frame of the animation."""
        (animation,) = self.json["animations"]
        weights, nodes = None, {}
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            output = self.array(sampler["output"])
            keys = len(self.array(sampler["input"]))
            value = output.reshape(keys, -1)[number]
            node, path = channel["target"]["node"], channel["target"]["path"]
            if path == "weights":
                weights = value
            else:
                nodes.setdefault(node, {})[path] = value
        return self.vertices(weights, nodes)

    @property
    def seconds(self) -> np.ndarray:
        return self.array(self.json["animations"][0]["samplers"][0]["input"])[:, 0]
