"""The viewer: puts stage, panels and player together and redraws what has changed."""

from __future__ import annotations

import base64
import logging
import mimetypes
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from headstudio.errors import UserError
from headstudio.motion.files import read_file
from headstudio.view import saving
from headstudio.view.face import Face
from headstudio.view.motions import FPS, Motion
from headstudio.view.panel import SPEEDS, FacePanel, LayerPanel
from headstudio.view.player import Player
from headstudio.view.stage import Stage
from headstudio.view.subject import Subject, told_apart

if TYPE_CHECKING:
    from viser import ViserServer

log = logging.getLogger("headstudio")
NOBODY = "(none)"
OWN = "talking"
LOOK_EVERY_S = 2.0  # for what a training run has saved


class Viewer:
    """One page that all its visitors share.

    Args:
        server: viser's.
        runs: the runs to choose from; the first is shown, and the second beside it if there are just two.
        motions: by name, beside the run's own.
        subjects: of the runs that have been loaded already.
    """

    def __init__(
        self,
        server: ViserServer,
        runs: list[Path],
        motions: dict[str, Motion],
        subjects: Mapping[Path, Subject] = MappingProxyType({}),
    ) -> None:
        self._server, self._runs = server, dict(zip(told_apart(runs), runs, strict=True))
        self._subjects = dict(subjects)
        self.motions: dict[str, Motion] = {OWN: Motion(), **motions}
        self.player, self.stage = Player(), Stage(server)
        self._dirty = threading.Event()
        self._driven = False  # by the motion; else by the sliders
        self._looked = 0.0
        self._taken: list[Face] | None = None  # faces of the motion that is being recorded
        self._keyframes: list[dict[str, Any]] = []
        second = list(self._runs)[1] if len(runs) == 2 else NOBODY
        self._build(second)
        self._put()
        self._choose_motion(next(iter(motions), OWN))

    def _build(self, second: str) -> None:
        """The panel, from top to bottom."""
        gui: Any = self._server.gui
        names = list(self._runs)
        gui.configure_theme(control_width="large", show_logo=False, show_share_button=False)
        gui.main_panel.dock_right()
        if len(names) > 1:
            self._left = gui.add_dropdown("run", names, initial_value=names[0])
            self._right = gui.add_dropdown("beside it", [NOBODY, *names], initial_value=second)
            for choice in (self._left, self._right):
                choice.on_update(lambda _: self._put())
        first = self._subject(self._runs[names[0]])
        tabs = gui.add_tab_group()
        with tabs.add_tab("Face"):
            self.face_panel = FacePanel(gui, first.head, self._touched)
        with tabs.add_tab("Motion"):
            self._build_player()
        with tabs.add_tab("Show"):
            self.layer_panel = LayerPanel(gui, self._dirty.set)
        with tabs.add_tab("Save"):
            self._build_saving()
        self._build_keys()

    def _build_player(self) -> None:
        gui: Any = self._server.gui
        self._motion = gui.add_dropdown("motion", list(self.motions), initial_value=OWN)
        self._motion.on_update(lambda _: self._choose_motion(self._motion.value))
        self._play = gui.add_button("Play", hint="space bar")
        self._play.on_click(lambda _: self.toggle_play())
        self._scrub = gui.add_slider("seconds", 0.0, 1.0, 0.01, 0.0)
        self._scrub.on_update(lambda event: self._scrubbed(event))
        speed = gui.add_dropdown("speed", SPEEDS, initial_value="1")
        speed.on_update(lambda _: self.player.set_speed(float(speed.value)))
        upload = gui.add_upload_button("Add a motion (.csv, .npz, .npy, .pkl)")
        upload.on_upload(lambda event: self._uploaded(event.target.value))
        self._sound = gui.add_html("")

    def _build_saving(self) -> None:
        gui = self._server.gui
        picture = gui.add_button("Save a picture", hint="key P")
        picture.on_click(lambda event: self._save_picture(event.client))
        self._record = gui.add_button("Record the sliders", hint="what they do until this is pressed again")
        self._record.on_click(lambda event: self._save_motion(event.client))
        keyframe = gui.add_button("Add the camera's place to its path")
        keyframe.on_click(lambda event: self._keyframe(event.client))
        path = gui.add_button("Save the camera's path")
        path.on_click(lambda event: self._save_path(event.client))
        self._places = gui.add_markdown("The path has no places yet.")

    def _build_keys(self) -> None:
        add: Any = self._server.gui.add_command
        add("Play or pause", hotkey="space").on_trigger(lambda _: self.toggle_play())
        add("Reset the face", hotkey="R").on_trigger(lambda _: self.face_panel.reset())
        add("Save a picture", hotkey="P").on_trigger(lambda event: self._save_picture(event.client))
        for key, layer in {"M": "mesh", "L": "landmarks", "G": "regions", "H": "splats"}.items():
            add(f"Show or hide: {layer}", hotkey=key).on_trigger(lambda _, layer=layer: self.layer_panel.toggle(layer))

    def _subject(self, path: Path) -> Subject:
        if path not in self._subjects:
            self._subjects[path] = Subject(path)
        return self._subjects[path]

    def _put(self) -> None:
        """The chosen runs onto the stage."""
        chosen = [self._left.value, self._right.value] if len(self._runs) > 1 else list(self._runs)
        try:
            self.stage.put([self._subject(self._runs[name]) for name in chosen if name != NOBODY])
        except UserError as problem:
            self._say(str(problem))
        self._dirty.set()

    def _say(self, text: str) -> None:
        """A sentence for whoever looks at the page."""
        log.warning(text)
        for client in self._server.get_clients().values():
            client.add_notification("headstudio", text, color="red", auto_close_seconds=10.0)

    def _touched(self) -> None:
        """A slider of the face was moved: the motion gives way."""
        if self.player.playing:
            self.toggle_play()
        self._driven = False
        self._dirty.set()

    def _choose_motion(self, name: str) -> None:
        self._driven = False
        self.player.load(self.motions[name].seconds)
        self._scrub.max = round(self.motions[name].seconds, 2)
        self._motion.value = name
        self._play.label = "Play"
        self._sound.content = ""
        self._dirty.set()

    def toggle_play(self) -> None:
        """Play from where it stands, or stand still there."""
        if self.player.playing:
            self.player.pause()
        else:
            self._driven = True
            self.player.play()
        self._play.label = "Pause" if self.player.playing else "Play"
        self._sound.content = self._sound_html() if self.player.playing else ""
        self._dirty.set()

    def _scrubbed(self, event: Any) -> None:
        if event.client is not None:  # a person's, not ours
            self.player.seek(float(self._scrub.value))
            self._driven = True
            self._dirty.set()

    def _sound_html(self) -> str:
        """The motion's sound, from where the player stands."""
        sound = self.motions[self._motion.value].sound
        if sound is None:
            return ""
        kind = mimetypes.guess_type(sound.name)[0] or "audio/wav"
        data = base64.b64encode(sound.read_bytes()).decode()
        return f'<audio autoplay src="data:{kind};base64,{data}#t={self.player.position:.3f}"></audio>'

    def _uploaded(self, file: Any) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(file.name).name
            path.write_bytes(file.content)
            try:
                recording = read_file(path, fps=None)[0]
            except UserError as problem:
                self._say(str(problem).replace(f"{folder}/", ""))
                return
        self.motions[path.name] = Motion(recording)  # in place of one of this name: the file that was edited
        self._motion.options = tuple(self.motions)
        self._choose_motion(path.name)
        self.toggle_play()

    def _save_picture(self, client: Any) -> None:
        if client is None:
            return
        height = saving.PICTURE_PX
        width = round(height * client.camera.image_width / client.camera.image_height)  # viser stretches other shapes
        pixels = client.get_render(height, width, transport_format="png", timeout=60.0)
        client.send_file_download("head.png", saving.png(pixels), save_immediately=True)

    def _save_motion(self, client: Any) -> None:
        if self._taken is None:
            self._taken = []
            self._record.label = "Stop recording, and save"
            return
        faces, self._taken = self._taken, None
        self._record.label = "Record the sliders"
        if faces and client is not None:
            client.send_file_download("motion.npz", saving.motion(faces, FPS), save_immediately=True)

    def _keyframe(self, client: Any) -> None:
        if client is not None:
            self._keyframes.append(saving.keyframe(client.camera))
            self._places.content = f"The path has {len(self._keyframes)} place(s)."

    def _save_path(self, client: Any) -> None:
        if self._keyframes and client is not None:
            client.send_file_download("camera_path.json", saving.camera_path(self._keyframes), save_immediately=True)

    def tick(self) -> None:
        """Draw once if anything has changed; called about `FPS` times a second."""
        if self._taken is not None:
            self._taken.append(self.face_panel.face)
        if time.monotonic() - self._looked > LOOK_EVERY_S:
            self._looked = time.monotonic()
            for subject in self.stage.subjects:
                if subject.refresh():
                    self._dirty.set()
        if not (self.player.playing or self._dirty.is_set()):
            return
        self._dirty.clear()
        if self._driven:
            position = self.player.position
            self._scrub.value = round(position, 2)
            motion = self.motions[self._motion.value]
            poses = [motion.at(position, subject) for subject in self.stage.subjects]
        else:
            poses = [self.face_panel.face.pose(subject.head) for subject in self.stage.subjects]
        self.stage.show(poses, self.layer_panel.layers(self.face_panel.shape))

    def serve(self) -> None:
        """Until Ctrl-C."""
        while True:
            began = time.monotonic()
            self.tick()
            time.sleep(max(0.0, 1.0 / FPS - (time.monotonic() - began)))
