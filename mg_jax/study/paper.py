"""The paper's results beside which a study puts its own.

Wu et al., A Multigrid Method for Efficiently Training Video Models, CVPR 2020. Speed-ups are of
training time on the same GPUs, against the baseline.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
    """A row of one of the paper's tables.

    Attributes:
      score: top-1 accuracy, or mean average precision, percent.
      speed_up: of training time against the baseline; None for the baseline.
      deviation: of the score over five runs, where there were several.
    """

    score: float
    speed_up: float | None = None
    deviation: float | None = None


# Table 1, SlowFast-R50 on Kinetics-400; all variants run as many iterations as the default.
KINETICS_BASELINE = Published(75.6)
KINETICS_MULTIGRID = Published(76.4, 4.5)
LONG_CYCLES = {1: Published(74.0, 4.0), 2: Published(75.5, 4.3), 3: Published(76.2, 4.4)}
SHORT_CYCLES = {1: Published(74.5, 4.2), 2: Published(75.5, 4.3)}
# In the text.
NO_FINE_TUNING = Published(76.0)
# Appendix: one long cycle over the run, and the learning rate by a cosine.
SINGLE_CYCLE = Published(74.4, 5.2)
COSINE_BASELINE = Published(75.8)
COSINE_SINGLE_CYCLE = Published(75.4, 5.2)
COSINE = Published(75.3, 4.2)
# Table 5, SlowFast-R50 of 64 frames on Something-Something V2, five runs.
SSV2_BASELINE = Published(60.9, None, 0.31)
SSV2_CUT = {
    1.0: Published(54.6, 5.2, 0.13),
    1.5: Published(57.3, 3.4, 0.13),
    2.0: Published(58.7, 2.6, 0.06),
}
SSV2_MULTIGRID = {
    1.0: Published(60.0, 8.3, 0.31),
    1.5: Published(61.2, 5.6, 0.18),
    2.0: Published(61.7, 4.2, 0.20),
}
