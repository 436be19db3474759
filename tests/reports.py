"""Reports on real runs, and on what such runs might have left."""

import json
import os
import shutil
import signal
import subprocess
import sys

from tests import runs

# Seeds 0, 1 and 2: share of videos that are right, and seconds of training.
RESULTS = {
    "baseline": ((0.5, 0.6, 0.7), (30.0, 40.0, 50.0)),
    "multigrid": ((0.6, 0.6, 0.9), (10.0, 20.0, 30.0)),
}
STRANGE = "_<i>R&D $a_1$"  # for HTML, for pictures and for their legends
LONG = "multigrid" * 9  # without a joint
# Fails if anything loads TensorFlow.
WITHOUT_TENSORFLOW = """
import runpy, sys
sys.modules["tensorflow"] = None
runpy.run_path("main.py", run_name="__main__")
"""
KEPT = ("config.json", "classes.json", "data.json", "log.jsonl", "summary.json")


def report(out, *folders):
    """Runs `main.py --mode=report`, which prints what this returns."""
    arguments = [f"--runs={','.join(map(str, folders))}", f"--workdir={out}"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, "--mode=report", *arguments],
        cwd=runs.ROOT,
        # It opens no accelerator, where runs may be training.
        env={**os.environ, "JAX_PLATFORMS": "nowhere"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def copied(source, folder):
    """A copy of a finished run's work directory, without its checkpoints."""
    folder.mkdir(parents=True)
    for name in KEPT:
        shutil.copy(source / name, folder / name)
    return folder


def change(path, **values):
    """Changes values of a JSON file; `a__b` is b in a."""
    content = json.loads(path.read_text())
    for name, value in values.items():
        *sections, last = name.split("__")
        inner = content
        for section in sections:
            inner = inner[section]
        inner[last] = value
    path.write_text(json.dumps(content))


def change_log(folder, edit):
    """Passes each line of a log through `edit`; those that become None are dropped."""
    lines = [line for line in map(edit, runs.log(folder)) if line is not None]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def seeded(source, folder, seed, top1, train_s):
    """A copy of a run as if another seed had come out like this."""
    copied(source, folder)
    change(folder / "config.json", seed=seed)
    times = {"train_s": train_s, "compile_s": 5.0, "eval_s": 1.0}
    change(folder / "summary.json", metrics__top1=top1, wall_clock_s=train_s + 6, **times)
    change_log(folder, lambda line: line | ({"top1": top1} if line["kind"] == "eval" else {}))
    return folder


def unfinished(source, folder, step):
    """A copy of a run as it was while it was writing the line after a step."""
    copied(source, folder)
    (folder / "summary.json").unlink()
    change_log(folder, lambda line: line if line["step"] <= step else None)
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 71, "kind": "tr')
    return folder


def make(folder, flags, multigrid):
    """A real baseline, three seeds each of it and of a multigrid run, and reports on them."""
    folder.mkdir()
    # With a checkpoint at every other step it takes its time.
    slowly = "--config.run.checkpoint_every=2"
    process = runs.start(folder / "real", *flags, slowly, config="tests/tiny.py:baseline")
    runs.wait_until(
        lambda: any(line["kind"] == "eval" for line in whole_lines(folder / "real")), [process]
    )
    process.send_signal(signal.SIGSTOP)  # so that it runs for as long as the report takes
    report(folder / "while_running", multigrid, folder / "real")
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    sources = {"baseline": folder / "real", "multigrid": multigrid}
    six = [
        seeded(source, folder / f"{name}_seed{seed}", seed, *values)
        for name, source in sources.items()
        for seed, values in enumerate(zip(*RESULTS[name], strict=True))
    ]
    (folder / "output").write_text(report(folder / "seeds", *six))
    strange = copied(multigrid, folder / "strange" / STRANGE)
    cut = unfinished(folder / "real", folder / "cut", 40)
    other = copied(multigrid, folder / LONG)
    change(other / "config.json", schedule__learning_rate=0.00002)
    report(folder / "strange_report", strange, cut, other)


def whole_lines(folder):
    """The lines of a log that is being written."""
    path = folder / "log.jsonl"
    return map(json.loads, path.read_text().split("\n")[:-1]) if path.exists() else []
