"""Many runs as one: frozen when the command is given, carried to machines, watched, tried again.

    compose.py   overrides -> resolved config and run directory
    freeze.py    the code as it is now, and a run's config, written where workers find them
    record.py    what was asked for: a file per command in SWEEP/.sweep/commands
    job.py       what a worker does with one run
    slurm.py, local.py, inprocess.py   how runs reach machines; queue.py is the local queue's own process
    state.py     how each run stands, from its own records and one question to the scheduler
    table.py, watch.py   what people see
    __main__.py  `python -m headstudio.sweep`

The Hydra plugin that calls these is in launchers/.
"""
