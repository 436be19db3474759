"""Frames that turn out to be damaged; readers load this, so it imports little."""


class DamagedFrames:
    """The frames of a split, those of some videos damaged."""

    def __init__(self, split, rows):
        self._frames = split.frames
        videos = split.videos
        spans = [(int(videos.first_frame[r]), int(videos.source_frames[r])) for r in rows]
        self._damaged = {first + i for first, count in spans for i in range(count)}

    def jpegs(self, numbers):
        if int(numbers[0]) in self._damaged:
            raise ValueError("cut off")
        return self._frames.jpegs(numbers)
