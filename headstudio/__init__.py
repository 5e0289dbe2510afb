"""HeadStudio: one sentence becomes an animatable 3D head."""

import os

__version__ = "0.1.0"

# Threads that wait for each other spin for milliseconds by default: beside other work on the same processors a run of
# two threads took 2.5 to 3.5 times as long, and alone no less (100 steps of `python -m headstudio.run scale.steps=100`
# beside two runs of one thread on two cores). Read when torch is loaded, which nothing has done yet.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
