"""A film of a face becomes a recording: where the head turned, and how much of ARKit's expressions it showed.

`recording.recording_of_video` is the whole of it; docs/tracking.md says how it works and how exact it is.
"""
