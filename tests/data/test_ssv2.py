"""Something-Something V2 from its official files."""

import json

import pytest

from mg_jax.input.datasets import class_names, open_data_set, open_source
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.builders import contents, refused

TEMPLATES = ["Holding something", "Pushing something from left to right", "Turning something"]


def write_ssv2(source, train, validation, labels=None):
    """The official files: templates of the videos by id."""
    labels = {name: str(k) for k, name in enumerate(TEMPLATES)} if labels is None else labels
    write_json(source, "labels", labels)
    for split, entries in (("train", train), ("validation", validation)):
        write_json(
            source,
            split,
            [
                {
                    "id": name,
                    "label": template.replace("[something]", "a cup"),
                    "template": template,
                    "placeholders": ["a cup"],
                }
                for name, template in entries.items()
            ],
        )


def write_json(source, name, content):
    (source / f"something-something-v2-{name}.json").write_text(json.dumps(content))


def test_ssv2_is_prepared_from_the_official_files(source):
    videos.write(source / "clips" / "101.webm", 5, fps=12, codec="libvpx-vp9")
    videos.write(source / "clips" / "102.webm", 6, fps=12, codec="libvpx")
    videos.write_folder(source / "clips" / "103", 12, name="{}.jpg")
    videos.write(source / "clips" / "104.mp4", 8, fps=12)
    write_ssv2(
        source,
        {"102": "Pushing [something] from left to right", "101": "Holding [something]"},
        {"103": "Turning [something]", "104": "Holding [something]"},
    )
    config = videos.config_for(source, "ssv2", videos="clips")
    config.model.num_classes = 3
    prepare(config)
    assert contents(config, "train") == {"102": ([1], 6), "101": ([0], 5)}
    assert contents(config, "validation") == {"103": ([2], 12), "104": ([0], 8)}
    assert open_source(config).classes == TEMPLATES
    frames = open_data_set(config).as_data_source("validation")
    assert [video["fps"] for video in frames] == [12, 12]


def test_ssv2_classes_have_the_numbers_of_the_official_file(source):
    videos.write_folder(source / "1", 3)
    templates = {"1": "Turning [something]"}
    labels = {"Turning something": "0", "Holding something": "2", "Waving something": "1"}
    write_ssv2(source, templates, templates, labels)
    config = videos.config_for(source, "ssv2")
    prepare(config)
    assert contents(config, "train") == {"1": ([0], 3)}
    names = ["Turning something", "Waving something", "Holding something"]
    assert class_names(open_data_set(config)) == names


@pytest.mark.parametrize("name", ["labels", "train", "validation"])
def test_each_file_of_ssv2_is_required(source, name):
    write_ssv2(source, {"1": "Turning [something]"}, {"1": "Turning [something]"})
    videos.write_folder(source / "1", 3)
    (source / f"something-something-v2-{name}.json").unlink()
    message = rf"something-something-v2-{name}.json is missing: the official .*prepare.source"
    refused(videos.config_for(source, "ssv2"), message)


def test_bad_files_of_ssv2_are_refused(source):
    videos.write_folder(source / "1", 3)
    good = {"1": "Turning [something]"}
    config = videos.config_for(source, "ssv2")
    write_ssv2(source, good, {"1": "Eating [something]"})
    message = r"validation.json, line 1: the template of video 1, 'Eating something', is none of"
    refused(config, message)
    write_ssv2(source, good, good, {"Turning something": "0", "Holding something": "2"})
    refused(config, r"labels.json: labels must be numbered 0 ... 1, each once")
    write_ssv2(source, good, {})
    refused(config, r"source: split 'validation' of .*validation.json lists no videos")
    (source / "something-something-v2-train.json").write_text("id,template\n")
    refused(config, r"train.json, line 1, cannot be read: Expecting value")
    write_json(source, "train", [{"id": "1", "template": good["1"]}] * 2)
    refused(config, r"split 'train' lists 1 twice \(.*train.json, line 1 and .*line 1\)")


def test_ssv2_says_where_it_looked_for_videos(source):
    write_ssv2(source, {"1": "Turning [something]"}, {"2": "Turning [something]"})
    config = videos.config_for(source, "ssv2", videos="clips")
    refused(config, r"there is no folder .*source/clips; .*--config.prepare.videos=")
    (source / "clips").mkdir()
    refused(
        config, r"2 of 2 videos cannot be read(.*\n)*.*clips/1.webm does not(.*\n)*.*clips/2.webm"
    )
