"""What is here, what is missing, how to get it, and which settings can run: `python -m headstudio.doctor`.

`machine` looks at the computer and its packages, `setting` at what one composed setting needs, `page` prints. Nothing
is made, downloaded or changed, and no network is asked.
"""
