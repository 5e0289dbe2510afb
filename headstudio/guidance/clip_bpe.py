"""CLIP's byte-pair vocabulary as a tokenizer folder, made from the copy that open_clip carries: no download.

All Stable Diffusion models of the first two generations read text through this vocabulary; a single-file checkpoint
does not carry it.
"""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

from headstudio.errors import UserError

START, END = "<|startoftext|>", "<|endoftext|>"
_MERGES = 49408 - 2 * 256 - 2  # the file lists more; CLIP was trained with as many as fit its 49,408 tokens


def write_tokenizer(folder: Path, *, pad_token: str = END, length: int = 77) -> None:
    """Write `vocab.json`, `merges.txt` and their settings, as the model repositories hold them.

    Args:
        folder: made if it does not exist.
        pad_token: SD 1.5 fills up with the end token, SD 2.1 with "!".
        length: tokens of a prompt, both ends included.

    Raises:
        UserError: open_clip's file is not where it should be.
    """
    merges = _bpe_lines()[1 : _MERGES + 1]
    letters = byte_letters()
    vocabulary = [*letters, *(letter + "</w>" for letter in letters)]
    vocabulary += ["".join(merge.split()) for merge in merges] + [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    numbered = json.dumps({token: number for number, token in enumerate(vocabulary)}, ensure_ascii=False)
    (folder / "vocab.json").write_text(numbered, encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "pad_token": pad_token, "unk_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")
    settings = {**special, "model_max_length": length, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def byte_letters() -> list[str]:
    """The letter that stands for each byte, in the order in which CLIP (and GPT-2) number them.

    Bytes that print stand for themselves and come first; the others borrow letters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def _bpe_lines() -> list[str]:
    spec = find_spec("open_clip")  # found, not imported: importing it takes seconds
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        file = Path(place) / "bpe_simple_vocab_16e6.txt.gz"
        if file.is_file():
            return gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")
    raise UserError("The package open_clip_torch lacks its file bpe_simple_vocab_16e6.txt.gz; install it again.")
