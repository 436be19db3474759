"""Frames that cannot be read; readers load this, so it imports little."""

from data.format.jpeg import DamagedFrame


class DamagedFrames:
    """The frames of a split; reading those of some videos raises an error."""

    def __init__(self, split, rows, error=DamagedFrame):
        self._frames = split.frames
        self._error = error
        videos = split.videos
        spans = [(int(videos.first_frame[r]), int(videos.source_frames[r])) for r in rows]
        self._damaged = {first + i for first, count in spans for i in range(count)}

    def jpegs(self, numbers):
        if int(numbers[0]) in self._damaged:
            raise self._error("cut off")
        return self._frames.jpegs(numbers)
