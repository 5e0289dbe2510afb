"""Phones of English as PocketSphinx hears them: a second opinion, by models of recorded people's speech.

PocketSphinx (Carnegie Mellon University, BSD-2-Clause) brings its US English acoustic model and phone language model in
the package; nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstudio.speech.features import RATE_HZ
from headstudio.speech.sounds import Phone, Sound, ipa_of_arpabet, sounds_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FRAMES_PER_SECOND = 100  # of PocketSphinx's segments
_PIECE_S = 30  # decoded at a time, for the sake of memory
_LANGUAGE_WEIGHT = 2.0  # of the phone language model against the sound
_BEAM = 1e-20


def recognised(samples: NDArray[np.float32]) -> list[Sound]:
    """What phone recognition hears, silence and noises left out; the same samples give the same sounds.

    Args:
        samples: (N,) at 16 kHz in [-1, 1].
    """
    from pocketsphinx import Decoder, get_model_path

    model = Path(get_model_path()) / "en-us"
    decoder = Decoder(
        hmm=str(model / "en-us"),
        allphone=str(model / "en-us-phone.lm.bin"),
        lm=None,
        dict=None,
        lw=_LANGUAGE_WEIGHT,
        beam=_BEAM,
        pbeam=_BEAM,
        loglevel="FATAL",
    )
    sounds: list[Sound] = []
    for first in range(0, len(samples), _PIECE_S * RATE_HZ):
        piece = (np.clip(samples[first : first + _PIECE_S * RATE_HZ], -1.0, 1.0) * 32767.0).astype("<i2")
        decoder.start_utt()
        decoder.process_raw(piece.tobytes(), full_utt=True)
        decoder.end_utt()
        start = first / RATE_HZ
        phones = (
            Phone(
                ipa_of_arpabet(segment.word),
                start + segment.start_frame / _FRAMES_PER_SECOND,
                start + (segment.end_frame + 1) / _FRAMES_PER_SECOND,
            )
            for segment in decoder.seg() or ()
        )
        sounds += sounds_of(phone for phone in phones if phone.ipa)
    return sounds
