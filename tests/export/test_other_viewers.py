"""Viewers that we did not write draw what our renderer draws: SuperSplat's, Spark on three.js; and PlayCanvas' reader.

A head whose colours depend on the place in all three directions, seen askew: any other turn or mirror image is seen.
"""

from __future__ import annotations

import base64
import io
import math
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gsply
import numpy as np
import pytest
import torch
from browser import SOFTWARE_GL, Browser, chromium, needs_browser
from export_node import with_packages
from PIL import Image
from scipy.spatial import cKDTree
from torch import Tensor
from web_browser import SIDE, ours, psnr_db, wait
from web_pages import opened, rigged

from headstudio.export.axes import AXES
from headstudio.export.splat_files import write_ply, write_splat, write_spz
from headstudio.head.anny import load_anny
from headstudio.opened import OpenedRun
from headstudio.types import Cameras

pytestmark = [pytest.mark.slow, needs_browser]

PACKAGES = (
    "@playcanvas/supersplat-viewer@1.36.2",
    "@playcanvas/splat-transform@2.7.1",
    "@sparkjsdev/spark@2.2.0",
    "three@0.180.0",
)
EYE, TARGET, FOVY_DEG = (0.6, 0.3, 2.2), (0.0, 0.05, 0.0), 40.0
BACKGROUND = (1.0, 128 / 255, 0.0)
WRITERS = {"ply": write_ply, "splat": write_splat, "spz": write_spz}

SUPERSPLAT = f"""<!doctype html><body style="margin: 0"><div id="v" style="width: {SIDE}px; height: {SIDE}px"></div>
<script type="module">
import {{ createViewer }} from "./node_modules/@playcanvas/supersplat-viewer/public/index.js";
const off = {{ enabled: false, amount: 0, intensity: 0, blurLevel: 2, inner: 0, outer: 1, curvature: 1 }};
const settings = {{
  version: 2, tonemapping: "none", highPrecisionRendering: true, background: {{ color: {list(BACKGROUND)} }},
  postEffectSettings: {{
    sharpness: off, bloom: off, vignette: off, fringing: off,
    grading: {{ enabled: false, brightness: 1, contrast: 1, saturation: 1, tint: [1, 1, 1] }},
  }},
  cameras: [{{ initial: {{ position: {list(EYE)}, target: {list(TARGET)}, fov: {FOVY_DEG} }} }}],
  animTracks: [], annotations: [], startMode: "default",
}};
const container = document.getElementById("v");
window.show = async (contentUrl) => {{
  const viewer = await createViewer(
    {{ container, settings, contentUrl, ui: false, noanim: true, nofx: true, renderer: "webgl" }}
  );
  const frame = await viewer.captureFrame({{ width: {SIDE}, height: {SIDE} }});
  viewer.destroy();
  return frame.data;
}};
</script>"""

SPARK = f"""<!doctype html><body>
<script type="importmap">{{"imports": {{
  "three": "./node_modules/three/build/three.module.js",
  "three/addons/": "./node_modules/three/examples/jsm/",
  "@sparkjsdev/spark": "./node_modules/@sparkjsdev/spark/dist/spark.module.js"
}}}}</script>
<script type="module">
import * as THREE from "three";
import {{ SparkRenderer, SplatMesh }} from "@sparkjsdev/spark";
const renderer = new THREE.WebGLRenderer({{ preserveDrawingBuffer: true }});
renderer.setSize({SIDE}, {SIDE});
const scene = new THREE.Scene();
scene.background = new THREE.Color().setRGB({", ".join(map(str, BACKGROUND))}, THREE.SRGBColorSpace);
scene.add(new SparkRenderer({{ renderer }}));
const camera = new THREE.PerspectiveCamera({FOVY_DEG}, 1, 0.01, 100);
camera.position.set({", ".join(map(str, EYE))});
camera.lookAt({", ".join(map(str, TARGET))});
window.show = async (url, turned) => {{
  const mesh = new SplatMesh({{ url }});
  if (turned) mesh.quaternion.set(1, 0, 0, 0);
  scene.add(mesh);
  await mesh.initialized;
  for (let i = 0; i < 4; i++) {{
    renderer.render(scene, camera);  // sorted beside it, for the next picture
    await new Promise((done) => setTimeout(done, 100));
  }}
  const picture = renderer.domElement.toDataURL("image/png");
  scene.remove(mesh);
  return picture;
}};
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pages, packages and heads."""
    folder = with_packages(tmp_path_factory.mktemp("site"), *PACKAGES)
    (folder / "supersplat.html").write_text(SUPERSPLAT, encoding="utf-8")
    (folder / "spark.html").write_text(SPARK, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run() -> OpenedRun:
    avatar = rigged(load_anny(num_shape=4))
    with torch.no_grad():
        means = avatar.pose(avatar.head.neutral_pose())[2].means[0]
        avatar.color_logits.copy_(4.0 * (means - means.mean(0)))
    return opened(avatar)


@pytest.fixture(scope="module")
def wanted(run: OpenedRun) -> Tensor:
    """(3, SIDE, SIDE): our renderer's picture from `EYE`."""
    eye, target = np.array(EYE), np.array(TARGET)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, (0.0, 1.0, 0.0)) / np.linalg.norm(np.cross(forward, (0.0, 1.0, 0.0)))
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3] = np.stack((right, np.cross(forward, right), forward))
    camera_from_world[:3, 3] = -camera_from_world[:3, :3] @ eye
    focal = SIDE / 2 / math.tan(math.radians(FOVY_DEG / 2))
    intrinsics = torch.tensor([[focal, 0, SIDE / 2], [0, focal, SIDE / 2], [0, 0, 1]])
    view = torch.from_numpy(camera_from_world).float()
    seen = Cameras(view[None], intrinsics[None], torch.zeros(1), torch.zeros(1), SIDE, SIDE)
    picture = ours(run.avatar, run.avatar.head.neutral_pose(), seen, BACKGROUND)
    for turned in (picture.flip(1), picture.flip(2), picture.flip(1, 2)):
        assert psnr_db(picture, turned) < 20.0  # so that any of the limits below tells
    return picture


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile"), *SOFTWARE_GL) as opened_browser:
        opened_browser.driver.set_script_timeout(120)
        yield opened_browser


def written(run: OpenedRun, site: Path, suffix: str, axes: str) -> str:
    """The file's name, below the site."""
    name = f"{axes}.{suffix}"
    WRITERS[suffix](run, site / name, pose=run.avatar.head.neutral_pose(), axes=AXES[axes])
    return name


def shown(browser: Browser, page: str, *arguments: Any) -> bytes:
    """What a page's `show` answers, from base64."""
    if browser.driver.current_url != page:
        browser.driver.get(page)
    wait(lambda: browser.js("return Boolean(window.show)"))
    script = (
        "const done = arguments[arguments.length - 1]; show(...arguments[0]).then(done, (e) => done(`failed ${e}`))"
    )
    answer = browser.driver.execute_async_script(script, arguments)
    assert not answer.startswith("failed"), answer
    return base64.b64decode(answer.split(",")[-1])


def test_supersplats_viewer_draws_the_ply_upright(
    browser: Browser, address: str, site: Path, run: OpenedRun, wanted: Tensor
) -> None:
    name = written(run, site, "ply", "supersplat")
    raw = np.frombuffer(shown(browser, f"{address}/supersplat.html", name), np.uint8).reshape(SIDE, SIDE, 4)
    picture = torch.from_numpy(raw[..., :3].copy()).permute(2, 0, 1) / 255.0
    assert psnr_db(picture, wanted) > 32.0


@pytest.mark.parametrize(("suffix", "turned"), [("ply", True), ("splat", True), ("spz", False)])
def test_spark_draws_them_upright(
    browser: Browser, address: str, site: Path, run: OpenedRun, wanted: Tensor, suffix: str, turned: bool
) -> None:
    """Turned about x as in its examples, but for .spz, which it takes as it is stored: with y up."""
    name = written(run, site, suffix, "opencv")
    with Image.open(io.BytesIO(shown(browser, f"{address}/spark.html", name, turned))) as png:
        picture = torch.from_numpy(np.array(png.convert("RGB"))).permute(2, 0, 1) / 255.0
    assert psnr_db(picture, wanted) > 32.0


@pytest.mark.parametrize(("suffix", "tolerance"), [("splat", 1e-6), ("spz", 3**0.5 / 131072)])
def test_playcanvas_reads_all_formats_alike(site: Path, run: OpenedRun, suffix: str, tolerance: float) -> None:
    """SuperSplat's editor reads files by splat-transform: what it makes of them is our .ply, the same way up."""
    ply, other = written(run, site, "ply", "supersplat"), written(run, site, suffix, "supersplat")
    command = ["node", "node_modules/@playcanvas/splat-transform/bin/cli.mjs", "-w", other, f"from_{suffix}.ply"]
    subprocess.run(command, cwd=site, check=True, capture_output=True, timeout=120)
    read, own = (gsply.plyread(str(site / name)) for name in (f"from_{suffix}.ply", ply))
    for one, all_others in ((read, own), (own, read)):  # in any order
        assert cKDTree(all_others.means).query(one.means)[0].max() < tolerance
