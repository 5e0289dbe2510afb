"""What leaves a run: the avatar as a file that others read, films and pictures."""
