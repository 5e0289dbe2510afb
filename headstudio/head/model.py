"""One parametric head for every head model: M(shape, pose, expression), Eq. 4 of the paper.

FLAME, the open head and the tiny heads of the tests are the same data with other numbers, so one
linear blend skinning serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from headstudio.types import ArkitMapping, Pose, PosedHead

Polyline = tuple[str, int, int, bool]


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*batch 3"], *, small: float = 1e-8) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of axis-angle vectors in radians (Rodrigues), smooth at zero.

    Below `small` (a squared angle) the two coefficients come from their Taylor series, because the
    quotients there are 0/0 and would give NaN gradients at the neutral pose.
    """
    squared = (axis_angle * axis_angle).sum(-1)
    is_small = squared < small
    safe = torch.where(is_small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    first = torch.where(is_small, 1 - squared / 6, angle.sin() / angle)
    # 2 sin^2(a/2) is 1 - cos(a) without the cancellation that costs float32 its digits at small angles
    second = torch.where(is_small, 0.5 - squared / 24, 2 * (0.5 * angle).sin() ** 2 / safe)
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + first[..., None, None] * skew + second[..., None, None] * (skew @ skew)


class HeadModel(nn.Module):
    """A skinned head with shape and expression blend shapes.

    The arrays are buffers that follow `.to(device)` but stay out of `state_dict`: they come from the
    head's file, so a checkpoint does not repeat them. World units and axes are those of `headstudio.types`.

    Args:
        v_template: (V, 3) vertices at rest.
        shapedirs: (V, 3, S) displacement per unit of shape.
        exprdirs: (V, 3, E) displacement per unit of expression.
        posedirs: (V, 3, 9 (J - 1)) displacement per entry of (rotation - identity) of every joint but the
            root, row by row; or (V, 3, 0) for a head without pose correctives.
        weights: (V, J) skinning weights, each row sums to 1.
        J_regressor: (J, V) joints from the vertices of the shaped (and expressed) head, rows sum to 1.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        parents: index of every joint's parent, -1 for the root, which comes first; parents precede children.
        joint_names, expression_names: names in the order of `Pose.joints` and `Pose.expression`.
        face_region: (F,) int64 index into `region_names`.
        landmark_faces, landmark_bary: (L,) int64 and (L, 3) where each landmark sits on the surface.
        landmark_polylines: (name, first, one past last, closed) per line, as in `types.Landmarks`.
        arkit_mapping: what ARKit's weights do to a head whose expressions have other names; it stays on the CPU, where
            poses are made.

    Raises:
        ValueError: when shapes or index ranges do not fit together.
    """

    v_template: Tensor
    shapedirs: Tensor
    exprdirs: Tensor
    posedirs: Tensor
    weights: Tensor
    J_regressor: Tensor
    faces: Tensor
    face_region: Tensor
    landmark_faces: Tensor
    landmark_bary: Tensor

    def __init__(
        self,
        *,
        v_template: Float[Tensor, "V 3"],
        shapedirs: Float[Tensor, "V 3 S"],
        exprdirs: Float[Tensor, "V 3 E"],
        posedirs: Float[Tensor, "V 3 Q"],
        weights: Float[Tensor, "V J"],
        J_regressor: Float[Tensor, "J V"],
        faces: Int[Tensor, "F 3"],
        parents: Sequence[int],
        joint_names: Sequence[str],
        expression_names: Sequence[str],
        face_region: Int[Tensor, " F"],
        region_names: Sequence[str],
        landmark_faces: Int[Tensor, " L"],
        landmark_bary: Float[Tensor, "L 3"],
        landmark_polylines: Sequence[Polyline],
        arkit_mapping: ArkitMapping | None = None,
    ) -> None:
        super().__init__()
        for name, value in {
            "v_template": v_template,
            "shapedirs": shapedirs,
            "exprdirs": exprdirs,
            "posedirs": posedirs,
            "weights": weights,
            "J_regressor": J_regressor,
            "landmark_bary": landmark_bary,
        }.items():
            self.register_buffer(name, value.to(v_template.dtype), persistent=False)
        for name, value in {"faces": faces, "face_region": face_region, "landmark_faces": landmark_faces}.items():
            self.register_buffer(name, value.to(torch.int64), persistent=False)
        self.parents = tuple(int(parent) for parent in parents)
        self.joint_names = tuple(str(name) for name in joint_names)
        self.expression_names = tuple(str(name) for name in expression_names)
        self.region_names = tuple(str(name) for name in region_names)
        self.landmark_polylines: tuple[Polyline, ...] = tuple(
            (str(name), int(first), int(end), bool(closed)) for name, first, end, closed in landmark_polylines
        )
        self.arkit_mapping = arkit_mapping
        self._check()

    def _check(self) -> None:
        vertices, joints, faces = len(self.v_template), len(self.parents), len(self.faces)
        landmarks = len(self.landmark_faces)
        correctives = self.posedirs.shape[-1]
        expected: dict[str, tuple[int, ...]] = {
            "v_template": (vertices, 3),
            "shapedirs": (vertices, 3, self.shapedirs.shape[-1]),
            "exprdirs": (vertices, 3, len(self.expression_names)),
            "posedirs": (vertices, 3, correctives if correctives == 0 else 9 * (joints - 1)),
            "weights": (vertices, joints),
            "J_regressor": (joints, vertices),
            "faces": (faces, 3),
            "face_region": (faces,),
            "landmark_faces": (landmarks,),
            "landmark_bary": (landmarks, 3),
        }
        for name, shape in expected.items():
            actual = tuple(getattr(self, name).shape)
            if actual != shape:
                raise ValueError(f"head: {name} has shape {actual} but the other arrays call for {shape}")
        if len(self.joint_names) != joints:
            raise ValueError(f"head: {len(self.joint_names)} joint names for {joints} joints")
        if not self.parents or self.parents[0] != -1:
            raise ValueError(f"head: the first joint must be the root (parent -1), but parents are {self.parents}")
        if any(not 0 <= parent < joint for joint, parent in enumerate(self.parents) if joint):
            raise ValueError(f"head: every joint's parent must come before it, but parents are {self.parents}")
        for name, limit in (("faces", vertices), ("face_region", len(self.region_names)), ("landmark_faces", faces)):
            index = getattr(self, name)
            if index.numel() and (int(index.min()) < 0 or int(index.max()) >= limit):
                raise ValueError(f"head: {name} holds indices outside 0..{limit - 1}")
        for line, first, end, _ in self.landmark_polylines:
            if not 0 <= first < end <= landmarks:
                raise ValueError(f"head: landmark line {line} spans {first}..{end}, outside 0..{landmarks}")

    @property
    def num_shape(self) -> int:
        return int(self.shapedirs.shape[-1])

    @property
    def num_expression(self) -> int:
        return int(self.exprdirs.shape[-1])

    @property
    def num_joints(self) -> int:
        return len(self.parents)

    def neutral_pose(self, count: int = 1) -> Pose:
        """`count` poses with zero expression and unrotated joints, on the head's device and dtype."""
        return Pose(
            expression=self.v_template.new_zeros(count, self.num_expression),
            joints=self.v_template.new_zeros(count, self.num_joints, 3),
        )

    def region_faces(self, name: str) -> Bool[Tensor, " F"]:
        """Which faces belong to the region `name`. Raises KeyError with the known names."""
        if name not in self.region_names:
            raise KeyError(f"the head has no region {name}; it has {', '.join(self.region_names)}")
        return self.face_region == self.region_names.index(name)

    def forward(self, shape: Float[Tensor, " S"], pose: Pose) -> PosedHead:
        """Vertices and joints of one shape at P poses, in world units.

        Joints are regressed from the head after shape and expression, pose correctives leave the root out,
        and vertices follow the weighted transforms of the joints: FLAME's and smplx's order of operations.

        Raises:
            ValueError: when the number of shape, expression or joint values is not the head's.
        Source: paper Eq. 4; smplx `lbs.lbs`.
        """
        count = len(pose)
        if shape.shape != (self.num_shape,):
            raise ValueError(f"shape has shape {tuple(shape.shape)} but the head takes ({self.num_shape},)")
        if pose.expression.shape != (count, self.num_expression) or pose.joints.shape != (count, self.num_joints, 3):
            raise ValueError(
                f"pose has expression {tuple(pose.expression.shape)} and joints {tuple(pose.joints.shape)} but the "
                f"head takes (P, {self.num_expression}) and (P, {self.num_joints}, 3)"
            )
        shaped = self.v_template + self.shapedirs @ shape
        displaced = shaped + (pose.expression @ self.exprdirs.flatten(0, 1).T).unflatten(-1, (-1, 3))
        joints = self.J_regressor @ displaced
        rotations = axis_angle_to_matrix(pose.joints)
        if self.posedirs.shape[-1]:
            identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            feature = (rotations[:, 1:] - identity).flatten(1)
            displaced = displaced + (feature @ self.posedirs.flatten(0, 1).T).unflatten(-1, (-1, 3))
        world_rotation, world_joints = self._chain(rotations, joints)
        # x' = sum_j w_j (R_j (x - rest_j) + posed_j): blend the rotations and the offsets, then apply once
        offset = world_joints - (world_rotation @ joints[..., None])[..., 0]
        transform = torch.cat((world_rotation, offset[..., None]), -1).flatten(2)
        blended = (self.weights @ transform).unflatten(-1, (3, 4))
        vertices = (blended[..., :3] @ displaced[..., None])[..., 0] + blended[..., 3]
        return PosedHead(vertices=vertices, joints=world_joints)

    def vertex_rotations(self, pose: Pose) -> Float[Tensor, "P V 3 3"]:
        """The blended rotation that skinning gives every vertex: what turns an offset from the skin with the skin."""
        rotations = axis_angle_to_matrix(pose.joints)
        turned, _ = self._chain(rotations, torch.zeros_like(pose.joints))
        return (self.weights @ turned.flatten(2)).unflatten(-1, (3, 3))

    def _chain(
        self, rotations: Float[Tensor, "P J 3 3"], joints: Float[Tensor, "P J 3"]
    ) -> tuple[Float[Tensor, "P J 3 3"], Float[Tensor, "P J 3"]]:
        """World rotation and position of every joint, parents before children; the root turns about itself."""
        turned, placed = [rotations[:, 0]], [joints[:, 0]]
        for joint, parent in enumerate(self.parents[1:], start=1):
            bone = (joints[:, joint] - joints[:, parent])[..., None]
            turned.append(turned[parent] @ rotations[:, joint])
            placed.append(placed[parent] + (turned[parent] @ bone)[..., 0])
        return torch.stack(turned, 1), torch.stack(placed, 1)
