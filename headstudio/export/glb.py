"""The rigged head as one .glb: a skinned mesh with morph targets, vertex colours and, if wanted, an animation.

y is up, the face looks along +z (glTF's front), lengths are metres: `METRES` per world unit, which makes the open head
and FLAME as large as a head is. Colours are what pictures of the avatar show, so the material is unlit.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstudio.export.glb_buffer import INDEX_DATA, VERTEX_DATA, Buffer
from headstudio.export.glb_rig import Bound, Moves, bind, influences, moves_of, subdivide
from headstudio.export.splats import check_moves
from headstudio.files import put

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.export.moves import Film
    from headstudio.head.model import HeadModel
    from headstudio.opened import OpenedRun
    from headstudio.types import Pose

log = logging.getLogger("headstudio")
METRES = 0.18  # per world unit: the head with its neck, 1.5 units, is 27 cm tall
STILL = 1e-7  # world units; a joint that moves less against its parent needs no translations
LOST = 1e-4  # weight; less than this on a fifth joint is not worth a word


def write_glb(opened: OpenedRun, path: Path, *, pose: Pose, motion: Film | None) -> str:
    """One binary glTF 2.0 file.

    Args:
        opened: the run.
        path: the file.
        pose: how the head stands when nothing plays.
        motion: becomes the animation.

    Raises:
        UserError: for a representation without a rig.
    """
    avatar = opened.avatar
    check_moves(avatar, "--format glb")
    head: HeadModel = avatar.head
    turning = bool(pose.joints.any()) or (motion is not None and bool(motion.poses.joints.any()))
    correctives = bool(head.posedirs.shape[-1]) and turning
    with torch.no_grad():
        bound, colors = dressed(avatar, bind(head, avatar.shape, correctives=correctives))
        still = moves_of(head, avatar.shape, pose, correctives=correctives)
        film = None if motion is None else moves_of(head, avatar.shape, motion.poses, correctives=correctives)
    *_, lost = influences(bound.weights)
    if lost > LOST:
        log.warning("Some vertices follow more than four joints; %.2g of their weight is left out.", lost)
    content = glb_bytes(head, bound, colors, still, film, 1.0 if motion is None else motion.fps, opened.prompt)
    put(path, content)
    told = f"{len(bound.vertices):,} vertices, {len(bound.target_names)} morph targets, {head.num_joints} joints"
    return told if motion is None else f"{told}, {len(motion)} frames"


def dressed(avatar: Any, bound: Bound) -> tuple[Bound, Float[Tensor, "V 3"]]:
    """The mesh as the representation shows it, and RGB in [0, 1] for its vertices."""
    from headstudio.avatar.textured_mesh import TexturedMesh
    from headstudio.export.glb_colors import baked_colors

    if not isinstance(avatar, TexturedMesh):
        return bound, baked_colors(avatar)
    bound = replace(bound, vertices=bound.vertices + avatar.displacement[:, None] * avatar.normals)
    return subdivide(bound, avatar.texel_ids, avatar.subdivisions), avatar.color_logits.sigmoid()


def linear(colors: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
    """sRGB to the linear light that glTF's vertex colours are in (IEC 61966-2-1)."""
    return torch.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)


def glb_bytes(
    head: HeadModel,
    bound: Bound,
    colors: Float[Tensor, "V 3"],
    still: Moves,
    film: Moves | None,
    fps: float,
    prompt: str,
) -> bytes:
    """The whole file."""
    import pygltflib as gltf

    buffer = Buffer()
    mesh = _mesh(buffer, bound, colors, still)
    skin = _skin(buffer, head, bound)
    animations = [] if film is None else [_animation(buffer, bound, head, film, fps)]
    document = gltf.GLTF2(
        asset=gltf.Asset(version="2.0", generator=f"headstudio {version('headstudio')}", extras={"prompt": prompt}),
        extensionsUsed=["KHR_materials_unlit"],
        scene=0,
        scenes=[gltf.Scene(nodes=[0, 1])],
        nodes=_nodes(head, still),
        meshes=[mesh],
        skins=[skin],
        materials=[
            gltf.Material(
                name="baked",
                doubleSided=True,
                alphaCutoff=None,
                pbrMetallicRoughness=gltf.PbrMetallicRoughness(metallicFactor=0.0, roughnessFactor=1.0),
                extensions={"KHR_materials_unlit": {}},
            )
        ],
        animations=animations,
        accessors=buffer.accessors,
        bufferViews=buffer.views,
        buffers=[gltf.Buffer(byteLength=len(buffer.content))],
    )
    document.set_binary_blob(bytes(buffer.content))
    return b"".join(document.save_to_bytes())


def _mesh(buffer: Buffer, bound: Bound, colors: Float[Tensor, "V 3"], still: Moves) -> Any:
    import pygltflib as gltf

    joints, weights, _ = influences(bound.weights)
    faces = bound.faces.cpu().numpy().reshape(-1)
    primitive = gltf.Primitive(
        attributes=gltf.Attributes(
            POSITION=buffer.add(_metres(bound.vertices), target=VERTEX_DATA, bounds=True),
            COLOR_0=buffer.add(linear(colors).cpu().numpy().astype("<f4"), target=VERTEX_DATA),
            JOINTS_0=buffer.add(joints, target=VERTEX_DATA),
            WEIGHTS_0=buffer.add(weights, target=VERTEX_DATA),
        ),
        indices=buffer.add(faces.astype("<u2" if len(bound.vertices) < 2**16 else "<u4"), target=INDEX_DATA),
        material=0,
        targets=[{"POSITION": buffer.add_sparse(_metres(target))} for target in bound.targets],
    )
    return gltf.Mesh(
        name="head",
        primitives=[primitive],
        weights=still.weights[0].tolist(),
        extras={"targetNames": list(bound.target_names)},
    )


def _skin(buffer: Buffer, head: HeadModel, bound: Bound) -> Any:
    import pygltflib as gltf

    inverse = np.tile(np.eye(4, dtype="<f4"), (head.num_joints, 1, 1))
    inverse[:, :3, 3] = -_metres(bound.joints)
    return gltf.Skin(
        name="head",
        joints=list(range(1, head.num_joints + 1)),
        skeleton=1,
        inverseBindMatrices=buffer.add(inverse),
    )


def _nodes(head: HeadModel, still: Moves) -> list[Any]:
    """The mesh, then the joints in the head's order."""
    import pygltflib as gltf

    nodes = [gltf.Node(name="head", mesh=0, skin=0)]
    for joint, name in enumerate(head.joint_names):
        nodes.append(
            gltf.Node(
                name=name,
                children=[child + 1 for child, parent in enumerate(head.parents) if parent == joint],
                rotation=still.rotations[0, joint].tolist(),
                translation=(still.translations[0, joint] * METRES).tolist(),
            )
        )
    return nodes


def _animation(buffer: Buffer, bound: Bound, head: HeadModel, film: Moves, fps: float) -> Any:
    """All weights, and turns and shifts of the joints that move; linear between frames."""
    import pygltflib as gltf

    times = buffer.add((np.arange(len(film.weights)) / fps).astype("<f4"), bounds=True)
    tracks: list[tuple[int, str, np.ndarray]] = [(0, "weights", film.weights.reshape(-1))]
    for joint in range(head.num_joints):
        tracks.append((joint + 1, "rotation", film.rotations[:, joint]))
        if np.ptp(film.translations[:, joint], axis=0).max() > STILL:
            tracks.append((joint + 1, "translation", (film.translations[:, joint] * METRES).astype("<f4")))
    return gltf.Animation(
        name="motion",
        samplers=[
            gltf.AnimationSampler(input=times, output=buffer.add(np.ascontiguousarray(values)), interpolation="LINEAR")
            for *_, values in tracks
        ],
        channels=[
            gltf.AnimationChannel(sampler=number, target=gltf.AnimationChannelTarget(node=node, path=path))
            for number, (node, path, _) in enumerate(tracks)
        ],
    )


def _metres(points: Float[Tensor, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    return (points * METRES).detach().cpu().numpy().astype("<f4")
