"""The controls beside the picture: sliders of the face, the player, what is drawn, what can be saved."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headstudio.view.face import GROUPS, Face, slider_names
from headstudio.view.stage import Layers

if TYPE_CHECKING:
    from viser import GuiApi

    from headstudio.head.model import HeadModel

NECK = {"turn": 60.0, "nod": 40.0, "tilt": 40.0}  # degrees either way
GAZE = {"look sideways": 35.0, "look up": 25.0}
JAW_DEG = 24.0  # as far as jawOpen
FEW_COEFFICIENTS = 20  # of FLAME's
SHAPES = 8
SPEEDS = ("0.25", "0.5", "1", "2")


def in_words(name: str) -> str:
    """`mouthSmileLeft` as "mouth smile left", which a narrow column can break."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower().replace("_", " ")


class FacePanel:
    """Sliders for everything that a head can move; `changed` is called when one of them is."""

    def __init__(self, gui: GuiApi, head: HeadModel, changed: Callable[[], None]) -> None:
        self._sliders: dict[str, Any] = {}
        self._angles: dict[str, Any] = {}
        self._shape: list[Any] = []
        reset = gui.add_button("Reset the face", hint="key R")
        reset.on_click(lambda _: self.reset())
        with gui.add_folder("Head and eyes"):
            for name, limit in {**NECK, **GAZE}.items():
                self._angles[name] = gui.add_slider(name, -limit, limit, 0.5, 0.0)
            if "jaw" in head.joint_names:
                self._angles["open the jaw's joint"] = gui.add_slider("open the jaw's joint", 0.0, JAW_DEG, 0.5, 0.0)
        for title, starts in GROUPS.items():
            names = [name for name in slider_names(head) if name.startswith(starts) and self._wanted(name)]
            if names:
                with gui.add_folder(title, expand_by_default=title in ("Jaw", "Lips")):
                    self._add(gui, names)
        with gui.add_folder("Shape of the head", expand_by_default=False):
            self._shape = [
                gui.add_slider(f"shape {n}", -3.0, 3.0, 0.1, 0.0) for n in range(min(SHAPES, head.num_shape))
            ]
        for slider in (*self._sliders.values(), *self._angles.values(), *self._shape):
            slider.on_update(lambda _: changed())

    def _add(self, gui: GuiApi, names: list[str]) -> None:
        for name in names:
            low, high = (-3.0, 3.0) if name.startswith("flame_") else (0.0, 1.0)
            self._sliders[name] = gui.add_slider(in_words(name), low, high, 0.01, 0.0, hint=name)

    @staticmethod
    def _wanted(name: str) -> bool:
        """Not what the sliders of the gaze do, and not FLAME's faint coefficients."""
        if name.startswith("flame_"):
            return int(name.removeprefix("flame_")) < FEW_COEFFICIENTS
        return not name.startswith("eyeLook")

    @property
    def face(self) -> Face:
        """What the sliders say now."""
        angle = {name: float(slider.value) for name, slider in self._angles.items()}
        return Face(
            expression={name: float(slider.value) for name, slider in self._sliders.items() if slider.value},
            gaze_deg=(angle["look sideways"], angle["look up"]),
            neck_deg=(angle["turn"], angle["nod"], angle["tilt"]),
            jaw_deg=angle.get("open the jaw's joint", 0.0),
        )

    @property
    def shape(self) -> tuple[float, ...]:
        return tuple(float(slider.value) for slider in self._shape)

    def reset(self) -> None:
        for slider in (*self._sliders.values(), *self._angles.values(), *self._shape):
            slider.value = 0.0


class LayerPanel:
    """Which layers are drawn, and how large the Gaussians are."""

    def __init__(self, gui: GuiApi, changed: Callable[[], None]) -> None:
        self._boxes: dict[str, Any] = {
            "splats": gui.add_checkbox("head", True),
            "mesh": gui.add_checkbox("mesh", False),
            "landmarks": gui.add_checkbox("landmarks", False),
            "regions": gui.add_checkbox("regions", False),
        }
        self._size = gui.add_slider("size of the Gaussians", 0.1, 2.0, 0.05, 1.0)
        for control in (*self._boxes.values(), self._size):
            control.on_update(lambda _: changed())

    def layers(self, shape: tuple[float, ...]) -> Layers:
        return Layers(
            **{name: bool(box.value) for name, box in self._boxes.items()}, size=float(self._size.value), shape=shape
        )

    def toggle(self, name: str) -> None:
        self._boxes[name].value = not self._boxes[name].value
