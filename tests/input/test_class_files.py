import pathlib

import pytest

from configs.base import get_base
from mg_jax.errors import UserError
from mg_jax.input.class_files import read_class_files
from mg_jax.tools.plan import write_plan
from mg_jax.workdir.class_files import check_class_files, write_class_files
from mg_jax.workdir.config import WorkdirError

CLASSES = ["up", "left, slow", "right, slow", "down"]


def read(tmp_path, setting, text):
    path = tmp_path / "classes.csv"
    path.write_text(text)
    config = get_base()
    config.update_from_flattened_dict({setting: str(path)})
    return read_class_files(config, CLASSES)


def refused(tmp_path, setting, text):
    with pytest.raises(UserError) as error:
        read(tmp_path, setting, text)
    assert setting in str(error.value)
    return str(error.value)


def test_pairs_swap_and_other_classes_stay(tmp_path):
    for text in ('"left, slow","right, slow"\n', '"right, slow", "left, slow"\n\n' * 2):
        assert read(tmp_path, "data.flip_pairs", text).mirrored == (0, 2, 1, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("up,down\ndown,up\ndown,down\n", ["line 3", "'down'", "'up'"]),
        ('up,down\n"left, slow",down\n', ["line 2", "'down'", "'left, slow'", "'up'"]),
        ("up,dwn\n", ["'dwn'", "Did you mean 'down'"]),
        ("up,sideways\n", ["'sideways'", "4"]),
        ("up\n", ["line 1", "1 columns"]),
        ("", ["empty"]),
    ],
)
def test_pairs_that_do_not_fit_are_refused(tmp_path, text, words):
    message = refused(tmp_path, "data.flip_pairs", text)
    assert all(word in message for word in words), message


def test_classes_without_a_weight_have_weight_one(tmp_path):
    weights = read(tmp_path, "loss.class_weights", 'down,0.5\n"left, slow",3\n').weights
    assert weights == (1.0, 3.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("donw,2\n", ["'donw'", "Did you mean 'down'"]),
        ("class,weight\n", ["no class 'class'"]),
        ("up,-1\n", ["'-1'"]),
        ("up,many\n", ["'many'"]),
        ("up,1\nup,2\n", ["line 2", "'up'"]),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, text, words):
    message = refused(tmp_path, "loss.class_weights", text)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("setting", "rows"),
    [("data.flip_pairs", "two classes a row"), ("loss.class_weights", "a class and its weight")],
)
def test_a_file_that_is_not_there_is_named_with_where_it_was_looked_for(setting, rows):
    config = get_base()
    config.update_from_flattened_dict({setting: "nowhere.csv"})
    with pytest.raises(UserError) as error:
        read_class_files(config, CLASSES)
    said = str(error.value)
    assert said.startswith(f"{setting}='nowhere.csv'") and rows in said
    assert str(pathlib.Path.cwd() / "nowhere.csv") in said


def test_a_plan_checks_names_where_data_are_prepared_and_else_all_but_names(config, tmp_path):
    path = tmp_path / "weights.csv"
    path.write_text("lefft,2\n")
    config.loss.class_weights = str(path)
    with pytest.raises(UserError, match=r"no class 'lefft' .* Did you mean 'left'"):
        write_plan(config, tmp_path / "run")
    config.data.dir = str(tmp_path)
    write_plan(config, tmp_path / "run")
    for content, reason in (("lefft\n", "1 columns"), ("a,-1\n", "'-1'"), ("a,1\na,2\n", "above")):
        path.write_text(content)
        with pytest.raises(UserError, match=reason):
            write_plan(config, tmp_path / "run")


def test_a_run_is_continued_with_the_same_content_only(tmp_path):
    content = {"mirrored": (1, 0), "weights": None}
    write_class_files(tmp_path, content)
    check_class_files(tmp_path, {"mirrored": None, "weights": None})  # nothing is trained yet
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    check_class_files(tmp_path, content)
    with pytest.raises(WorkdirError, match=r"of data\.flip_pairs;"):
        check_class_files(tmp_path, {"mirrored": (0, 1), "weights": None})
    (tmp_path / "class_files.json").unlink()
    with pytest.raises(WorkdirError, match=r"of data\.flip_pairs;"):
        check_class_files(tmp_path, content)


def test_what_a_run_without_checkpoints_has_left_does_not_bind_the_next(tmp_path):
    none = {"mirrored": None, "weights": None}
    write_class_files(tmp_path, {"mirrored": (1, 0), "weights": None})
    write_class_files(tmp_path, none)
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    check_class_files(tmp_path, none)
