"""Faces by name, as ARKit weights: the mouths of speech (visemes) and a handful of expressions.

The visemes are the fifteen that speech animation commonly uses (silence, PP FF TH DD kk CH SS nn RR aa E I O U).
The weights are ours, chosen by eye on the open head; a name without its side stands for both sides.
"""

from __future__ import annotations

VISEMES: dict[str, dict[str, float]] = {
    "sil": {},
    "PP": {"mouthPress": 0.45, "mouthRollLower": 0.25, "mouthRollUpper": 0.25, "jawOpen": 0.06, "mouthClose": 0.06},
    "FF": {"jawOpen": 0.1, "mouthRollLower": 0.35, "mouthUpperUp": 0.2, "mouthFunnel": 0.1},
    "TH": {"jawOpen": 0.2, "mouthLowerDown": 0.2, "mouthStretch": 0.1, "tongueOut": 0.2},
    "DD": {"jawOpen": 0.18, "mouthLowerDown": 0.15, "mouthStretch": 0.15},
    "kk": {"jawOpen": 0.24, "mouthStretch": 0.15, "mouthShrugUpper": 0.1},
    "CH": {"jawOpen": 0.12, "mouthFunnel": 0.45, "mouthPucker": 0.25},
    "SS": {"jawOpen": 0.06, "mouthStretch": 0.35, "mouthLowerDown": 0.2, "mouthUpperUp": 0.1},
    "nn": {"jawOpen": 0.15, "mouthLowerDown": 0.1, "mouthShrugLower": 0.1},
    "RR": {"jawOpen": 0.16, "mouthFunnel": 0.3, "mouthPucker": 0.2},
    "aa": {"jawOpen": 0.6, "mouthLowerDown": 0.2, "mouthUpperUp": 0.12},
    "E": {"jawOpen": 0.35, "mouthStretch": 0.3, "mouthSmile": 0.2, "mouthLowerDown": 0.15},
    "I": {"jawOpen": 0.2, "mouthStretch": 0.35, "mouthSmile": 0.3, "mouthLowerDown": 0.15},
    "O": {"jawOpen": 0.42, "mouthFunnel": 0.55, "mouthPucker": 0.15},
    "U": {"jawOpen": 0.16, "mouthPucker": 0.7, "mouthFunnel": 0.25},
}

EXPRESSIONS: dict[str, dict[str, float]] = {
    "smile": {"mouthSmile": 0.85, "cheekSquint": 0.4, "eyeSquint": 0.2, "mouthDimple": 0.2},
    "open smile": {"mouthSmile": 0.8, "jawOpen": 0.25, "cheekSquint": 0.4, "mouthUpperUp": 0.2},
    "half smile": {"mouthSmileLeft": 0.6, "mouthDimpleLeft": 0.3, "eyeSquintLeft": 0.2},
    "frown": {"mouthFrown": 0.75, "browDown": 0.4, "mouthShrugLower": 0.3},
    "sadness": {"mouthFrown": 0.5, "browInnerUp": 0.8, "mouthPress": 0.2, "eyeBlink": 0.15},
    "anger": {"browDown": 0.85, "noseSneer": 0.4, "eyeSquint": 0.4, "mouthPress": 0.4},
    "disgust": {"noseSneer": 0.8, "mouthUpperUp": 0.4, "browDown": 0.4, "mouthFrown": 0.2},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.7, "jawOpen": 0.4},
    "raised brows": {"browInnerUp": 0.6, "browOuterUp": 0.7},
    "lowered brows": {"browDown": 0.7},
    "squint": {"eyeSquint": 0.8, "cheekSquint": 0.4},
    "puffed cheeks": {"cheekPuff": 0.7, "mouthPress": 0.2},
    "kiss": {"mouthPucker": 0.85},
    "jaw aside": {"jawLeft": 0.5, "mouthLeft": 0.3},
}
