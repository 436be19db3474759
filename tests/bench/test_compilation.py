"""The benchmark of compilation."""

from mg_jax.bench.compilation import ratios_of


def test_ratios_are_of_each_program_and_of_iterations_where_it_trains():
    def row(here, against, **iterations):
        return {
            "here": {"seconds": here, **iterations},
            "against": {"seconds": against, **iterations},
        }

    rows = [row(1, 2, step_seconds=3), row(9, 3), row(4, 5)]
    assert ratios_of(rows) == {
        "seconds": {"median": 0.8, "smallest": 0.5, "largest": 3},
        "step_seconds": {"median": 1, "smallest": 1, "largest": 1},
    }
