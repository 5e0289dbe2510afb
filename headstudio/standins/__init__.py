"""Files in the formats of what we may not or cannot ship, with made-up content: to rehearse the paper's setting, to test.

A head in FLAME's files, a prior in Stable Diffusion's, a motion in TalkSHOW's: `python -m headstudio.standins FOLDER`.
"""
