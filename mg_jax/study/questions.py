"""The questions that a study answers, in named sets, each with the paper's answer."""

import dataclasses

from mg_jax.study import paper
from mg_jax.study.cells import BASELINE, COARSE, FACTORS, LONG, MULTIGRID, SHORT, timed
from mg_jax.study.paper import Published


@dataclasses.dataclass(frozen=True)
class Answer:
    """A row of a table.

    Attributes:
      label: what tells it from the other rows.
      cell: the cell's name; one cell may answer several questions.
      published: the paper's row, if it has one.
    """

    label: str
    cell: str
    published: Published | None = None


@dataclasses.dataclass(frozen=True)
class Question:
    """A table of the study.

    Attributes:
      title: the question.
      paper: what the paper and its authors' models say about it, with the source.
      answers: the rows.
      reference: the cell that the others are compared with.
    """

    title: str
    paper: str
    answers: tuple[Answer, ...]
    reference: str = BASELINE


LABELS = {
    BASELINE: "baseline",
    COARSE: "baseline on T/4 × (H/√2)²",
    SHORT: "short cycle only",
    LONG: "long cycle only",
    MULTIGRID: "multigrid: both",
}
_ZOO = "PySlowFast's model zoo"
_EQUAL = "all variants run as many iterations as the default"


def _baseline(label: str = LABELS[BASELINE]) -> Answer:
    return Answer(label, BASELINE, paper.KINETICS_BASELINE)


def _multigrid(label: str) -> Answer:
    return Answer(label, MULTIGRID, paper.KINETICS_MULTIGRID)


def _cut(factor: float) -> tuple[Answer, Answer]:
    """A baseline cut to multigrid's iterations, and that multigrid."""
    cut = f"baseline, multigrid {factor:g}×'s iterations", f"baseline_cut_{factor:g}x"
    whole = f"multigrid, {factor:g}× epochs", timed(MULTIGRID, factor)
    return Answer(*cut, paper.SSV2_CUT[factor]), Answer(*whole, paper.SSV2_MULTIGRID[factor])


FIGURE_3 = Question(
    "Accuracy against cost",
    "every multigrid variant trades off better than the baseline, both cycles together best; the "
    "baseline loses accuracy from 1.5× its epochs on, the multigrid variants do not up to 2.0× "
    "(Fig. 3, SlowFast-R50 on Kinetics-400).",
    tuple(
        Answer(f"{LABELS[name]}, {factor:g}× epochs", timed(name, factor))
        for name, factors in FACTORS.items()
        for factor in factors
    ),
)

SETS = {
    "overview": (
        Question(
            "Multigrid against the baseline",
            "4.5× faster by the clock in 3.4× fewer iterations, +0.8 points on Kinetics-400 "
            f"(abstract, Table 1). {_ZOO}: 76.6 against the baseline's 76.8 % on Kinetics-400, "
            "63.5 against 63.0 % on Something-Something V2, 38.6 against 38.9 mAP on Charades.",
            (
                _baseline(),
                Answer("baseline, multigrid's iterations", "baseline_cut_1.5x"),
                Answer(LABELS[COARSE], COARSE),
                Answer(LABELS[SHORT], SHORT),
                Answer(LABELS[LONG], LONG),
                _multigrid(LABELS[MULTIGRID]),
            ),
        ),
    ),
    "figure3": (FIGURE_3,),
    "table1": (
        Question(
            "Shapes of the long cycle",
            f"each further shape helps (Table 1a, Kinetics-400; {_EQUAL}).",
            (
                _baseline(),
                Answer("1 shape: short cycle only", "table1_1_shape", paper.LONG_CYCLES[1]),
                Answer("2 shapes", "table1_2_shapes", paper.LONG_CYCLES[2]),
                Answer("3 shapes", "table1_3_shapes", paper.LONG_CYCLES[3]),
                _multigrid("4 shapes"),
            ),
        ),
        Question(
            "Shapes of the short cycle",
            f"each further shape helps (Table 1b, Kinetics-400; {_EQUAL}).",
            (
                _baseline(),
                Answer("1 shape: long cycle only", "table1_1_short_shape", paper.SHORT_CYCLES[1]),
                Answer("2 shapes", "table1_2_short_shapes", paper.SHORT_CYCLES[2]),
                _multigrid("3 shapes"),
            ),
        ),
    ),
    "shapes": (
        Question(
            "Coarse in space, in time, or in both",
            f"not asked; it has the first row alone. Here {_EQUAL}.",
            (
                _multigrid("the paper's four shapes"),
                Answer("space only: H/√2, H", "space_only"),
                Answer("time only: T/4, T/2, T", "time_only"),
                Answer("two stages: T/4, T", "two_stages"),
            ),
            reference=MULTIGRID,
        ),
    ),
    "fine_tuning": (
        Question(
            "Fine-tuning on the full shape",
            "it is worth 0.4 points on Kinetics-400 (in the text); its length was not varied. "
            f"Here {_EQUAL}.",
            (
                _multigrid("with"),
                Answer("without", "no_fine_tuning", paper.NO_FINE_TUNING),
                Answer("half as long", "fine_tuning_half"),
                Answer("1.5× as long", "fine_tuning_longer"),
            ),
            reference=MULTIGRID,
        ),
    ),
    "cycles": (
        Question(
            "One long cycle over the run, or one per learning-rate stage",
            "one per stage (appendix, Kinetics-400).",
            (
                _baseline(),
                Answer("single", "single_cycle", paper.SINGLE_CYCLE),
                _multigrid("per stage"),
            ),
        ),
        Question(
            "A learning rate that falls by a cosine",
            "multigrid then falls behind the baseline (appendix, Kinetics-400).",
            (
                Answer("baseline", "baseline_cosine", paper.COSINE_BASELINE),
                Answer("single cycle", "cosine_single_cycle", paper.COSINE_SINGLE_CYCLE),
                Answer("several cycles", "cosine", paper.COSINE),
            ),
            reference="baseline_cosine",
        ),
    ),
    "learning_rate": (
        Question(
            "The learning rate and the short cycle",
            "scaling it by the short cycle's batch too is harmful (Sec. 3.2, without a number).",
            (
                _multigrid("by the long cycle's batch"),
                Answer("by both", "short_cycle_rate"),
            ),
            reference=MULTIGRID,
        ),
    ),
    "augmentation": (
        Question(
            "Augmentation, and its strength on coarse grids",
            "not asked. EfficientNetV2 (Tan and Le, ICML 2021), which trains on images of growing "
            "size, gains by augmentation that grows with them. Here RandAugment of two operations "
            "of magnitude 5; by the grid means three tenths of that on the coarsest.",
            (
                _multigrid("multigrid"),
                Answer("multigrid, augmented", "augmented"),
                Answer("multigrid, augmented by the grid", "augmented_by_grid"),
                _baseline("baseline"),
                Answer("baseline, augmented", "baseline_augmented"),
            ),
            reference=MULTIGRID,
        ),
    ),
    "batch_norm": (
        Question(
            "Batch norm",
            "sub-batches, of 8 clips, keep its noise apart from the speed-up (Sec. 3.3, without a "
            "number).",
            (
                _multigrid("multigrid, sub-batches"),
                Answer("multigrid, whole batches of all devices", "whole_batch_bn"),
                _baseline("baseline, sub-batches"),
                Answer("baseline, whole batches of all devices", "baseline_whole_batch_bn"),
            ),
            reference=MULTIGRID,
        ),
    ),
    "table5": (
        Question(
            "Baselines cut to multigrid's iterations",
            "far behind multigrid of as many iterations (Table 5, Something-Something V2, mean ± "
            "standard deviation of five runs). On Charades, in this order, 38.0, 27.5 and 36.8, "
            "31.5 and 38.2, 33.6 and 37.4 mAP (Table 6).",
            (
                Answer("baseline", BASELINE, paper.SSV2_BASELINE),
                *_cut(1.0),
                *_cut(1.5),
                *_cut(2.0),
            ),
        ),
    ),
}

QUESTIONS = tuple(question for questions in SETS.values() for question in questions)
