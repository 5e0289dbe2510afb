"""Random components of a tiny latent diffusion model, in diffusers' own classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from headstudio.types import Cameras

WORDS = ["a", "head", "with", "green", "red", "hair", "skin", "view", "front", "side", "back", "overhead", "blurry"]
LATENTS, TOKENS, WIDTH = 6, 12, 16
VIEWS_OF_A_STEP = 3


def make_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [","]
    vocab = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        symbols = [*word[:-1], word[-1] + "</w>"]
        while len(symbols) > 1:
            merges.append(f"{symbols[0]} {symbols[1]}")
            symbols[:2] = [symbols[0] + symbols[1]]
            vocab.append(symbols[0])
    numbered = {token: number for number, token in enumerate(dict.fromkeys(vocab))}
    pairs = [tuple(merge.split(" ")) for merge in dict.fromkeys(merges)]
    return CLIPTokenizer(vocab=numbered, merges=pairs, model_max_length=TOKENS)


def make_text_encoder(vocab_size: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=TOKENS,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def make_unet(latent_channels: int) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )


def make_controlnet(unet: Any) -> Any:
    from diffusers import ControlNetModel

    # Three strides of two: from a picture of 64 to latents of 8.
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 4, 8, 8))
    for parameter in net.parameters():  # its output layers start at zero; a control map must matter here
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return net


def make_linear_codec() -> Any:
    from headstudio.guidance.linear_codec import LinearCodec

    return LinearCodec.fit(torch.rand(4, 3, 64, 64) * 2 - 1, latent_channels=LATENTS)


def make_autoencoder() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=LATENTS,
        norm_num_groups=2,
        sample_size=64,
        scaling_factor=0.7,
    )


def make_components(prediction_type: str = "v_prediction", vae: str = "linear") -> dict[str, Any]:
    """Everything that `Prior` takes; the same numbers every time."""
    from diffusers import DDIMScheduler

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer, unet = make_tokenizer(), make_unet(LATENTS)
        components = {
            "unet": unet,
            "controlnet": make_controlnet(unet),
            "vae": {"linear": make_linear_codec, "autoencoder": make_autoencoder}[vae](),
            "text_encoder": make_text_encoder(len(tokenizer)),
            "tokenizer": tokenizer,
        }
    components["scheduler"] = DDIMScheduler(
        prediction_type=prediction_type, timestep_spacing="trailing", clip_sample=False, beta_schedule="scaled_linear"
    )
    return components


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


Builder = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def build() -> Builder:
    """The builder of random components, for tests that vary them."""
    return make_components


@pytest.fixture(scope="session")
def components() -> dict[str, Any]:
    """Shared and read-only: a v-prediction model with a linear codec. Tests that free a part make their own `Prior`."""
    return make_components()


@pytest.fixture
def prior(components: dict[str, Any]) -> Any:
    from headstudio.guidance.prior import Prior

    return Prior(**components)


@pytest.fixture
def cameras() -> Cameras:
    """From the front, the side and behind."""
    return Cameras(
        camera_from_world=torch.eye(4).expand(VIEWS_OF_A_STEP, 4, 4),
        intrinsics=torch.eye(3).expand(VIEWS_OF_A_STEP, 3, 3),
        azimuth_deg=torch.tensor([0.0, 90.0, 180.0]),
        elevation_deg=torch.zeros(VIEWS_OF_A_STEP),
        width=64,
        height=64,
    )


@pytest.fixture
def rgb() -> Tensor:
    """A picture for each of the cameras that wants a gradient."""
    return torch.rand(VIEWS_OF_A_STEP, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.fixture
def control() -> Tensor:
    """A control picture for each of them."""
    return torch.rand(VIEWS_OF_A_STEP, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Stand-ins for the published models by kind, narrow and of 64-pixel pictures; shared and read-only."""
    from headstudio.standins.diffusion import write_prior

    written: dict[Any, Any] = {}

    def write(kind: str, **options: Any) -> Any:
        key = (kind, *sorted(options.items()))
        if key not in written:
            if not options.get("single_file"):
                options.setdefault("sample_size", 8)
            written[key] = write_prior(tmp_path_factory.mktemp(kind), kind, **options)
        return written[key]

    return write


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every connection fails at once; the addresses that were asked for are listed."""
    import socket

    asked: list[Any] = []

    def refuse(self: socket.socket, address: Any) -> None:
        asked.append(address)
        raise OSError("no network in this test")

    def unknown(host: Any, *_: Any, **__: Any) -> Any:
        asked.append(host)
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return asked
