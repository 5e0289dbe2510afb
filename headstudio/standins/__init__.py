"""Made-up content in the formats of what we may not or cannot ship: to rehearse the paper's setting, and for tests.

A head in FLAME's files, a prior in Stable Diffusion's, a motion in TalkSHOW's: `python -m headstudio.standins FOLDER`.
"""
