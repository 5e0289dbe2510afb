"""The head's own surface with a learned texture: the other way to make a head from a sentence that can be animated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headstudio.avatar.densify import Densification, NoDensification
from headstudio.avatar.frames import Frames, triangle_frames
from headstudio.avatar.init import Initialisation
from headstudio.avatar.representation import Representation
from headstudio.avatar.static import Scaled, checked_unit
from headstudio.avatar.texture import face_neighbours, lattice, mesh_edges
from headstudio.errors import UserError
from headstudio.head.model import HeadModel
from headstudio.optim import Adam
from headstudio.reg import Regularisation
from headstudio.render import Renderer, SceneRenderer
from headstudio.render.mesh import vertex_normals
from headstudio.types import Pose, PosedHead, PosedMesh

PARAMETERS = ("color_logits", "displacement", "shape")


class TexturedMesh(Representation):
    """A head whose shape, texture and surface detail are learned.

    `color_logits` (T, 3) are the texels before a sigmoid (`avatar.texture` says where they lie), `displacement` (V,)
    moves each vertex along the resting head's normal, world units, before the head is skinned, and `shape` (S,) is the
    head's. The saved state holds these three.

    Args:
        head: the mesh; becomes a submodule.
        generator: not used, as nothing is drawn.
        init: not used, as there are no Gaussians to place.
        initial_color: RGB in (0, 1).
        subdivisions: parts into which the texture cuts each edge; 1 is one colour per vertex.
        length_unit: world units; displacements count in it for `lambda_smooth` and for their learning rate, which is
            `optim.rates.means`.
        lambda_smooth: weight of `reg_smooth`.

    Raises:
        UserError: when a starting colour is not inside (0, 1), or a number is out of its range.

    Source: TADA (Liao et al. 2024), section 3: shape, displacements along normals and albedo of a parametric body.
    """

    color_logits: nn.Parameter
    displacement: nn.Parameter
    shape: nn.Parameter
    texel_ids: Tensor
    neighbours: Tensor
    edges: Tensor
    normals: Tensor

    def __init__(
        self,
        head: HeadModel,
        generator: torch.Generator,
        *,
        init: Initialisation,
        initial_color: tuple[float, float, float],
        subdivisions: int,
        length_unit: float,
        lambda_smooth: float,
    ) -> None:
        super().__init__()
        if not subdivisions >= 1:
            raise UserError(f"representation.subdivisions={subdivisions} is not possible: it must be at least 1.")
        if not lambda_smooth >= 0:
            raise UserError(f"representation.lambda_smooth={lambda_smooth:g} is not possible: it must be 0 or more.")
        color = torch.tensor(list(initial_color), dtype=head.v_template.dtype)
        if color.shape != (3,) or not bool(((color > 0) & (color < 1)).all()):
            raise UserError(
                f"representation.initial_color={color.tolist()} is not possible: "
                "it has three values between 0 and 1, without these two."
            )
        self.length_unit, self.lambda_smooth = checked_unit(length_unit), lambda_smooth
        texels = self._dress(head, subdivisions)
        rest = head.v_template
        self.color_logits = nn.Parameter(torch.logit(color).to(rest).repeat(texels, 1))
        self.displacement = nn.Parameter(rest.new_zeros(len(rest)))
        self.shape = nn.Parameter(rest.new_zeros(head.num_shape))

    @classmethod
    def from_state(cls, head: HeadModel, state: Mapping[str, Tensor], *, subdivisions: int) -> TexturedMesh:
        """A finished mesh, to be drawn: it has no weights for a training.

        Raises:
            UserError: when the tensors are not those of such a mesh on this head.
        """
        mesh = cls.__new__(cls)
        nn.Module.__init__(mesh)
        texels = mesh._dress(head, subdivisions)
        mesh.length_unit, mesh.lambda_smooth = 1.0, 0.0
        wanted = {"color_logits": (texels, 3), "displacement": (len(head.v_template),), "shape": (head.num_shape,)}
        found = {name: tuple(value.shape) for name, value in state.items()}
        if found != wanted:
            raise UserError(f"The saved mesh has {found} where this head needs {wanted}.")
        for name in PARAMETERS:
            setattr(mesh, name, nn.Parameter(state[name].detach().to(head.v_template).clone()))
        return mesh

    def _dress(self, head: HeadModel, subdivisions: int) -> int:
        """The head and what follows from its triangles; returns the number of texels."""
        self.head, self.subdivisions = head, subdivisions
        texel_ids, count = lattice(head.faces, len(head.v_template), subdivisions)
        made = {
            "texel_ids": texel_ids,
            "neighbours": face_neighbours(head.faces),
            "edges": mesh_edges(head.faces)[0],
            "normals": vertex_normals(head.v_template, head.faces),
        }
        for name, value in made.items():
            self.register_buffer(name, value, persistent=False)
        return count

    def pose(self, pose: Pose) -> tuple[PosedHead, Frames, PosedMesh]:
        """The displaced head at P poses, its triangles' frames, and the mesh to draw. Evaluates the head once."""
        posed = self.head(self.shape, pose)
        turned = (self.head.vertex_rotations(pose) @ self.normals[..., None])[..., 0]
        posed = PosedHead(vertices=posed.vertices + self.displacement[:, None] * turned, joints=posed.joints)
        mesh = PosedMesh(
            vertices=posed.vertices,
            faces=self.head.faces,
            neighbours=self.neighbours,
            texels=self.color_logits.sigmoid(),
            texel_ids=self.texel_ids,
            subdivisions=self.subdivisions,
        )
        return posed, triangle_frames(posed.vertices, self.head.faces), mesh

    def renderer(self, given: Renderer) -> SceneRenderer:
        """A `MeshRenderer` where the given one wants its inputs."""
        from headstudio.render.mesh_renderer import MeshRenderer

        return MeshRenderer(given.device)

    def regularisation(self, given: Regularisation) -> Regularisation:
        """`Smoothness`: there are no Gaussians that could leave their triangle."""
        return Smoothness(self.lambda_smooth, self.length_unit)

    def densification(self, given: Densification) -> Densification:
        """None."""
        return NoDensification()

    def optimisation(self, given: Adam) -> Adam:
        """The given rates of colours and shape; displacements have that of the means, per `length_unit`."""
        rates = {name: rate for name, rate in given.rates.items() if name in PARAMETERS}
        if "means" in given.rates:
            rates["displacement"] = Scaled(given.rates["means"], self.length_unit)
        return Adam(betas=given.betas, rates=rates, eps=given.eps)


class Smoothness:
    """Keeps a mesh's displacements alike along its edges: the quadratic form of the uniform graph Laplacian.

    Source: O. Sorkine, Laplacian mesh processing, 2005, section 2.
    """

    def __init__(self, weight: float, length_unit: float) -> None:
        self.weight, self.length_unit = weight, length_unit

    def __call__(self, avatar: Any, frames: Frames, step: int) -> dict[str, Tensor]:
        """{"reg_smooth": weight times the sum over edges of the squared difference, in `length_unit`}."""
        ends = (avatar.displacement / self.length_unit).index_select(0, avatar.edges.flatten()).unflatten(0, (-1, 2))
        return {"reg_smooth": self.weight * (ends[:, 0] - ends[:, 1]).square().sum()}
