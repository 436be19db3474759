import pytest

from mg_jax.report.formatting import flops_unit, in_words, number, percent, signed, time_unit
from mg_jax.report.groups import Spread, spread


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (3.432, "3.43× faster"),
        (1 / 3.432, "3.43× slower"),
        (1.004, "as fast"),
        (0.996, "as fast"),
    ],
)
def test_a_ratio_is_a_factor_above_one_in_words(ratio, text):
    assert in_words(ratio, "faster", "as fast", "slower") == text


def test_means_have_the_deviation_of_several_seeds():
    assert percent(spread([0.9, 0.92])) == "91.0 ± 1.4"
    assert percent(spread([0.9])) == "90.0"
    assert number(Spread(7200.0, 360.0), 2, 1 / 3600) == "2.00 ± 0.10"


def test_differences_have_a_sign_and_zero_is_not_negative():
    assert [signed(value) for value in (0.81, -0.81, -0.01)] == ["+0.8", "-0.8", "+0.0"]


def test_units_leave_numbers_neither_tiny_nor_huge():
    assert [time_unit(seconds)[1] for seconds in (119, 120, 7200)] == ["s", "min", "h"]
    assert [flops_unit(flops)[1] for flops in (1e11, 1e12, 1e15)] == ["GFLOPs", "TFLOPs", "PFLOPs"]
