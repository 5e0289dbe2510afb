"""Speech drives the head: from a sound, or a sentence that is spoken, to a recording of the face."""
