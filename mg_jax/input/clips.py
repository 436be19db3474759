"""Reading clips: frames by index, crops of them, other videos in the place of damaged ones.

Nothing here needs TensorFlow or JAX: processes that read start without them.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from data.format import crop as frames_lib
from data.format.jpeg import DamagedFrame
from data.format.records import FrameRecords
from data.format.video_table import VideoTable
from mg_jax.grid import Grid
from mg_jax.input import sampling
from mg_jax.input.sampling import Augmentation, Clips, Views
from mg_jax.input.shared_memory import Field

# Frames of the clips of a task, at most: each task costs the process that asks a wake-up.
_TASK_FRAMES = 512
# Tasks of a batch for each reader, at least, so that all have work until about its end.
_TASKS_EACH = 4
# Frames of a test video that one reader reads.
_PART_FRAMES = 128
# Videos that are tried in the place of a damaged one.
_REPLACEMENTS = 16
# Of crops that are decoded before they are put into their views: what stays in a core's cache.
_MOST_BYTES = 4 << 20

# Called with the row of a damaged video, the error and what happens instead.
OnDamage = Callable[[int, Exception, str], None]


class NothingLeft(Exception):
    """A video is damaged and so are all that were to take its place; says so."""


@dataclasses.dataclass(frozen=True)
class ClipSource:
    """Training clips of a split.

    Attributes:
      videos: of the split.
      frames: records of their frames.
      multi_label: a video has any number of labels, not one.
      augmentation: what is random.
      grids: the shapes that clips come in; tasks name them by index.
      mirrored: class, by class, of mirrored clips; None where they keep their own.
    """

    videos: VideoTable
    frames: FrameRecords
    multi_label: bool
    augmentation: Augmentation
    grids: tuple[Grid, ...]
    mirrored: tuple[int, ...] | None = None

    def fields(self, shape_index: int, count: int) -> dict[str, Field]:
        """The arrays of a batch of so many clips of a grid: pixels, label, and what was drawn."""
        grid = self.grids[shape_index]
        label = Field((count,), np.int32)
        if self.multi_label:
            label = Field((count, self.videos.classes), np.uint8)
        return {
            "clips": Field((count, grid.frames, grid.size, grid.size, 3), np.uint8),
            "label": label,
            "rows_B": Field((count,), np.int64),
            "frames_BT": Field((count, grid.frames), np.int64),
            "boxes_B3": Field((count, 3), np.int64),
            "flip_B": Field((count,), np.bool_),
        }

    def tasks(self, shape_index: int, count: int, readers: int) -> list[tuple[int, int]]:
        """The first clip and the count of each task that so many readers make a batch by."""
        frames = self.grids[shape_index].frames
        size = max(min(_TASK_FRAMES // frames, count // (_TASKS_EACH * readers)), 1)
        return [(start, min(size, count - start)) for start in range(0, count, size)]

    def read(
        self,
        shape_index: int,
        first: int,
        task: tuple[int, int],
        batch: dict[str, np.ndarray],
        on_damage: OnDamage,
    ) -> None:
        """Reads the clips of a task into a batch.

        Args:
          shape_index: of the grid.
          first: position of the batch's first clip in the endless sequence.
          task: one of `tasks`.
          batch: arrays as `fields` says.
          on_damage: told of damaged videos, in whose places others come.

        Raises:
          NothingLeft: if none can.
        """
        start, count = task
        grid, own = self.grids[shape_index], slice(start, start + count)
        clips = sampling.sample_clips(self.videos, grid, self.augmentation, first + start, count)
        records_BT = self.videos.records(clips.rows_B, clips.frames_BT)
        names = [field.name for field in dataclasses.fields(Clips)]
        for b, out_THWC in enumerate(batch["clips"][own]):
            try:
                self._read(out_THWC, int(clips.rows_B[b]), records_BT[b], clips.boxes_B3[b])
            except DamagedFrame as error:
                taken = self._read_another(
                    int(clips.rows_B[b]), error, grid, first + start + b, out_THWC, on_damage
                )
                for name in names:
                    getattr(clips, name)[b] = getattr(taken, name)[0]
        for name in names:
            batch[name][own] = getattr(clips, name)
        batch["label"][own] = self._labels(clips)

    def _labels(self, clips: Clips) -> np.ndarray:
        mirrored_K = None if self.mirrored is None else np.array(self.mirrored)
        if self.multi_label:
            labels_BK = self.videos.labels_within(clips.rows_B, clips.frames_BT)
            if mirrored_K is not None:
                labels_BK[clips.flip_B] = labels_BK[clips.flip_B][:, mirrored_K]
            return labels_BK
        label_B = self.videos.label(clips.rows_B)
        if mirrored_K is not None:
            label_B = np.where(clips.flip_B, mirrored_K[label_B], label_B)
        return label_B

    def _read(
        self, out_THWC: np.ndarray, row: int, records_T: np.ndarray, box_3: np.ndarray
    ) -> None:
        jpegs = self.frames.jpegs(records_T)
        frames_lib.crop(out_THWC[None], jpegs, self.videos.shape(row), box_3[None])

    def _read_another(
        self,
        damaged: int,
        error: DamagedFrame,
        grid: Grid,
        position: int,
        out_THWC: np.ndarray,
        on_damage: OnDamage,
    ) -> Clips:
        """Reads a clip of another video than the damaged one, drawn as its clip was.

        Which one follows from the damage alone, so that a run that is repeated repeats it.

        Args:
          damaged: row of the video.
          error: what is wrong with it.
          grid: of the clip.
          position: of the clip in the endless sequence.
          out_THWC: where to put its pixels.
          on_damage: told of this video, and of further ones that are damaged.

        Returns:
          The clip that was read.
        """
        videos, row = self.videos, damaged
        for _ in range(_REPLACEMENTS):
            # Its neighbours are stored next to it and may be damaged as well.
            other = (row + 1 + len(videos) // 2) % len(videos)
            on_damage(row, error, f"{videos.ids[other]} takes its place")
            row = other
            clip = sampling.clips_of(videos, grid, self.augmentation, position, np.array([row]))
            (records_T,) = videos.records(clip.rows_B, clip.frames_BT)
            try:
                self._read(out_THWC, row, records_T, clip.boxes_B3[0])
                return clip
            except DamagedFrame as next_error:
                error = next_error
        raise NothingLeft(
            f"video {videos.ids[damaged]} is damaged and so are {_REPLACEMENTS} that were to take "
            "its place; prepare the data set again"
        )


@dataclasses.dataclass(frozen=True)
class ViewSource:
    """Test videos of a split, each with all its views.

    Attributes:
      videos: of the split.
      frames: records of their frames.
      views: of each video.
    """

    videos: VideoTable
    frames: FrameRecords
    views: Views

    def fields(self, shape_index: int, count: int) -> dict[str, Field]:
        """The one array of a batch of so many videos."""
        views = self.views
        shape = (count, len(views), views.frames, views.size, views.size, 3)
        return {"clips": Field(shape, np.uint8)}

    def tasks(self, shape_index: int, count: int, readers: int) -> list[tuple[int, int]]:
        """Video and part of each task; the parts of a video have a share of its frames each."""
        parts = self._parts
        return [divmod(i, parts) for i in range(count * parts)]

    @property
    def _parts(self) -> int:
        return -(-self.views.clips * self.views.frames // _PART_FRAMES)

    def read(
        self,
        shape_index: int,
        first: int,
        task: tuple[int, int],
        batch: dict[str, np.ndarray],
        on_damage: OnDamage,
    ) -> None:
        """Reads a part of a video into a batch.

        Args:
          shape_index: 0, there is one shape.
          first: row of the batch's first video; those past the last are black.
          task: one of `tasks`.
          batch: arrays as `fields` says.
          on_damage: told of a damaged video, which keeps what its memory held.
        """
        b, part = task
        row, out_VThhC = first + b, batch["clips"][b]
        if row >= len(self.videos):
            out_VThhC[:] = 0
            return
        try:
            read_views(
                out_VThhC, self.frames.jpegs, self.videos, row, self.views, (part, self._parts)
            )
        except DamagedFrame as error:
            on_damage(row, error, "it is left out")


def read_views(
    out_VThhC: np.ndarray,
    jpegs: Callable[[np.ndarray], Sequence[bytes | memoryview]],
    videos: VideoTable,
    row: int,
    views: Views,
    part: tuple[int, int] = (0, 1),
) -> None:
    """Reads all views of a video, or a part of them, crop by crop.

    Args:
      out_VThhC: where to put them, uint8.
      jpegs: gives frames by record index.
      videos: holds the video.
      row: of the video.
      views: of it.
      part: index of the part and how many parts there are.
    """
    frames_CT = sampling.view_frames(videos, row, views)
    # However many clips share a frame, it is decoded once.
    records_N, where = np.unique(
        videos.records(np.full(len(frames_CT), row), frames_CT), return_inverse=True
    )
    where_CT = where.reshape(frames_CT.shape)
    boxes = sampling.view_boxes(videos, row, views)
    most = max(_MOST_BYTES // (views.crops * views.size**2 * 3), 1)
    out_NCThhC = out_VThhC.reshape(views.crops, *frames_CT.shape, views.size, views.size, 3)
    begin, end = (len(records_N) * (part[0] + i) // part[1] for i in range(2))
    for start in range(begin, end, most):
        own = slice(start, min(start + most, end))
        crops_NThhC = np.empty((views.crops, own.stop - start, views.size, views.size, 3), np.uint8)
        frames_lib.crop(crops_NThhC, jpegs(records_N[own]), videos.shape(row), boxes)
        clips, times = np.nonzero((where_CT >= start) & (where_CT < own.stop))
        out_NCThhC[:, clips, times] = crops_NThhC[:, where_CT[clips, times] - start]
