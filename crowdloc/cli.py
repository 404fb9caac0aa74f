"""The command `crowdloc`. Every sub-command imports what it needs only when it runs."""

from __future__ import annotations

import argparse
import errno
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from crowdloc.core.errors import CrowdlocError

# Packages of the extra `notebooks`; plain installation does without.
_OF_NOTEBOOKS = ("lightning", "matplotlib", "nbformat", "papermill", "pyarrow", "seaborn", "snakemake")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"crowdloc: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Exit status: 0, 1 for a failed check or job, 2 for an error that the user can mend."""
    from crowdloc.core.locking import follow_leader

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be UTF-8; they come out as they are
    options = _parser().parse_args(argv)
    follow_leader()
    try:
        return int(options.call(options) or 0)
    except CrowdlocError as error:
        message = " ".join(str(error).split())
    except OSError as error:
        if error.errno == errno.EPIPE:
            sys.stderr.close()  # the reader of our output has gone, as in `crowdloc list | head`
            return 1
        message = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message += "; free some space and run the same command again"
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OF_NOTEBOOKS:
            raise
        message = f"{error.name} is not installed: pip install 'crowdloc[notebooks]' brings it"
    except KeyboardInterrupt:
        print("crowdloc: stopped", file=sys.stderr)
        return 130
    print(f"crowdloc: error: {message}", file=sys.stderr)
    return 2


def _list(o: argparse.Namespace) -> None:
    from crowdloc.reproduce import artefacts

    for line in artefacts.lines() if o.name is None else artefacts.lines_of(o.name):
        print(line)


def _run(o: argparse.Namespace) -> int:
    if o.notebook == "all":
        from crowdloc.reproduce import running

        if o.parameter or o.out:
            raise CrowdlocError("run all takes neither --parameter nor --out: name one notebook")
        return running.run(o.source or "weights", o.data_root, o.cores, o.snakemake)
    from crowdloc.core import paths
    from crowdloc.reproduce import notebooks

    given = {name: notebooks.literal(value) for name, value in o.parameter}
    if o.source:
        given["source"] = o.source
    if o.data_root:
        given["data_root"] = str(paths.require_data_root(o.data_root).resolve())
    print(notebooks.run(notebooks.find(o.notebook), given, o.out))
    return 0


def _refresh(o: argparse.Namespace) -> None:
    from crowdloc.reproduce import notebooks

    for path in [notebooks.find(name) for name in o.notebook] or notebooks.numbered():
        print(f"{path.name}: {'changed' if notebooks.refresh(path) else 'unchanged'}", flush=True)


def _check(o: argparse.Namespace) -> int:
    from crowdloc.core import paths
    from crowdloc.results import checking

    root = paths.require_data_root(o.data_root) if paths.data_root(o.data_root) else None
    try:
        print(checking.check(root).to_string(index=False))
    except checking.CheckError as error:
        for problem in error.problems:
            print(f"crowdloc: mismatch: {' '.join(problem.split())}", file=sys.stderr)
        return 1
    return 0


def _report(o: argparse.Namespace) -> None:
    from crowdloc.core import paths

    last = paths.BUILD / "report.txt"
    if o.source is None and last.is_file():
        text = last.read_text(encoding="utf-8")
    else:
        from crowdloc.results import overview

        text = f"{overview.report(o.source or 'stored', o.data_root)}\n"
    if not o.site:
        print(text, end="")
        return
    from crowdloc.reproduce import site

    print(site.build(text, Path(o.out) if o.out else None))


def _train(o: argparse.Namespace) -> None:
    from crowdloc.core.locking import is_held_for_us, locked
    from crowdloc.results import runs
    from crowdloc.results.experiments import Experiment

    if _is_own(o, ("method", "start", "steps", "seed", "photos")):
        from crowdloc.results import own

        given = {name: value for name in ("method", "seed") if (value := getattr(o, name)) is not None}
        given |= {"start": o.start, "steps": o.steps, "photos": o.photos, "out": o.out, "devices": o.devices or "auto"}
        print(own.train(o.data, **given))
        return
    experiment = Experiment.parse(o.id)
    out = o.out or runs.trained(experiment)
    lock = out / ".lock"
    # Further processes of the same training (`--devices`) are started by the first, which holds the lock.
    with nullcontext() if is_held_for_us(lock) else locked(lock, f"training of {experiment.id}"):
        if o.key:
            _begin_anew(out, o.key)
        print(runs.train(experiment, out=out, root=o.data_root, devices=o.devices or "auto"))


def _is_own(o: argparse.Namespace, only: Sequence[str]) -> bool:
    """Whether a folder of one's own is meant, not an experiment; options that belong to the other are refused."""
    if (o.data is None) == (o.id is None):
        raise CrowdlocError("give either the ID of an experiment or --data FOLDER")
    given = [name for name in only if getattr(o, name) not in (None, False)]
    if o.data is None and given:
        raise CrowdlocError(f"--{given[0].replace('start', 'from')} goes with --data FOLDER, not with an experiment")
    if o.data is not None and o.data_root is not None:
        raise CrowdlocError("--data-root goes with an experiment, not with --data FOLDER")
    return o.data is not None


def _begin_anew(folder: Path, key: str) -> None:
    """Remove the checkpoint of a training that was begun with another key, that is by other code or on other data."""
    from crowdloc.core.files import atomic_write
    from crowdloc.training.checkpoints import CHECKPOINT

    path = folder / "key.txt"
    if path.is_file() and path.read_text(encoding="utf-8", errors="replace").strip() != key:
        (folder / CHECKPOINT).unlink(missing_ok=True)
        (folder / "log.csv").unlink(missing_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(f"{key}\n", encoding="utf-8")


def _evaluate(o: argparse.Namespace) -> None:
    from crowdloc.results import runs
    from crowdloc.results.experiments import Experiment

    if _is_own(o, ("weights", "experiment", "method", "threshold", "photos")):
        from crowdloc.results import own, scoring
        from crowdloc.results.networks import open_network

        if o.source is not None:
            raise CrowdlocError("--source goes with an experiment, not with --data FOLDER: give --weights FILE")
        network = open_network(o.weights, experiment=o.experiment, method=o.method)
        found = own.evaluate(o.data, network, split=o.split, threshold=o.threshold, photos=o.photos)
        print(scoring.as_text(found))
        return
    experiment, source = Experiment.parse(o.id), o.source or "weights"
    if o.split is None:
        print(runs.evaluate(experiment, source=source, root=o.data_root))
    else:
        from crowdloc.results import scoring

        print(scoring.as_text(scoring.score_experiment(experiment, o.split, source=source, root=o.data_root)))


def _calibrate(o: argparse.Namespace) -> None:
    from crowdloc.results import own
    from crowdloc.results.networks import open_network

    network = open_network(o.weights, experiment=o.experiment, method=o.method)
    found = own.calibrate(o.data, network, o.out, split=o.split, photos=o.photos)
    before = "none" if found["before"] is None else f"{found['before']:g} (MAE {found['MAE before']:.2f})"
    print(f"threshold {found['threshold']:g}: MAE {found['MAE']:.2f} on {found['images']} images; before: {before}")
    print(
        found["out"] or f"use it with --threshold {found['threshold']:g}, or write weights that know it with --out FILE"
    )


def _promote(o: argparse.Namespace) -> None:
    from crowdloc.results import store

    print(store.promote(o.name))


def _locate(o: argparse.Namespace) -> int:
    from crowdloc.inference.windows import Stages
    from crowdloc.results import locating
    from crowdloc.results.networks import open_network

    network = open_network(o.weights, experiment=o.experiment, method=o.method)
    least = network.threshold if o.threshold is None else o.threshold
    print(f"{network.describe()}; counted are scores from {least}", file=sys.stderr)
    given = ("threshold", "every", "fps", "photos", "precision")
    options = {name: getattr(o, name) for name in given} | {"weights": network}
    stages = Stages()
    with _warnings_in_one_line():
        if o.out is None:
            return _print_points(locating.stream(o.source, **options), o)
        more = {name: getattr(o, name) for name in ("annotate", "parquet", "overwrite")}
        found = locating.record(o.source, o.out, **options, **more, limit=o.frames, stages=stages)
    if o.plot:
        from crowdloc.figures.footage import write_count_over_time

        print(write_count_over_time(found.folder))
    if o.profile:
        print(stages, file=sys.stderr)
    state = "complete" if found.complete else "the same command goes on"
    print(f"{found.folder}: {found.frames} frames, {found.heads} heads; {state}")
    return 130 if found.stopped else 0


def _print_points(found: Any, o: argparse.Namespace) -> int:
    """CSV on the standard output, every frame as soon as it is known."""
    from itertools import islice

    from crowdloc.results.recording import POINT_COLUMNS, point_rows

    for name in ("annotate", "parquet", "overwrite", "plot", "profile"):
        if getattr(o, name):
            raise CrowdlocError(f"--{name} needs a folder for what it makes: give --out FOLDER")
    for number, frame in enumerate(islice(found, o.frames)):
        header = f"{','.join(POINT_COLUMNS)}\n" if number == 0 else ""
        print(header + point_rows(frame), end="", flush=True)
    return 0


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """What the user should know, in one line without the place in our code."""
    import warnings

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"crowdloc: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _generate(o: argparse.Namespace) -> None:
    from crowdloc.datasets.synthcrowd import generate
    from crowdloc.datasets.synthcrowd.store import default_root

    out = o.out or default_root()
    generate(out, preset=o.preset)
    print(out)


def _verify(o: argparse.Namespace) -> int:
    from crowdloc.datasets.verification import verify

    report = verify(o.name, o.data_root)
    print(report)
    return report.exit_code


def _info(o: argparse.Namespace) -> None:
    from crowdloc.datasets.catalog import info

    print(info(o.name))


def _parser() -> _Parser:
    parser = _Parser(prog="crowdloc", description="Companion of GNANet: rerun, check and use everything of the paper.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, call: Any, help: str, to: Any = commands) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = to.add_parser(name, help=help, description=help)
        command.set_defaults(call=call)
        return command

    def data_root(command: argparse.ArgumentParser) -> None:
        command.add_argument("--data-root", metavar="FOLDER", help="real data sets (default: CROWDLOC_DATA)")

    def weights_options(command: argparse.ArgumentParser) -> None:
        command.add_argument("--weights", metavar="FILE", help="safetensors file (default: the stored GNANet)")
        command.add_argument("--experiment", metavar="ID", help="whose weights to take, or what FILE belongs to")
        command.add_argument("--method", metavar="NAME", help="the stored weights of another method")

    show = add("list", _list, "tables, figures, notebooks: what is stored, what was executed, time on one core")
    show.add_argument("name", metavar="NOTEBOOK|ID|all", nargs="?", help="the experiments of a notebook, those whose "
                      "id begins so, or all: what there is of each (stored, weights, made here)")  # fmt: skip

    run = add("run", _run, "execute one notebook, or all with what they need, into build/notebooks")
    run.add_argument("notebook", metavar="NOTEBOOK|all", help="path, name or number; all: the whole reproduction")
    run.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    run.add_argument("--source", choices=("stored", "weights", "train"), help="all: weights unless given")
    run.add_argument("--cores", type=_positive, metavar="N", help="cores that `all` may use (default: every one)")
    run.add_argument("--out", type=Path, metavar="FILE", help="where the executed notebook goes")
    run.add_argument("--snakemake", nargs=argparse.REMAINDER, default=[], metavar="OPTION",
                     help="the rest of the line goes to Snakemake: --executor slurm --jobs 20")  # fmt: skip
    data_root(run)

    data_root(add("check", _check, "compare everything in results/ with its evidence, its digests and the lists"))

    promote = add("promote", _promote, "copy a finished result from build/ into results/")
    promote.add_argument("name", metavar="ID", help="an experiment, or studies/NAME, datasets/NAME, kernels/NAME")

    train = add("train", _train, "train an experiment, or on your own images; goes on where it stopped")
    train.add_argument("--devices", type=_positive, metavar="N", help="processes or GPUs (default: auto)")
    train.add_argument("--out", type=Path, metavar="FOLDER", help="default: under build/")
    train.add_argument("--key", help=argparse.SUPPRESS)
    train.add_argument("--method", metavar="NAME", help="with --data: the network (default: gnanet)")
    train.add_argument("--from", dest="start", metavar="WEIGHTS", help="with --data: file or ID to go on from, or "
                       "`scratch` (default: the stored weights of the method)")  # fmt: skip
    train.add_argument("--steps", type=_positive, metavar="N", help="with --data: default 300, from scratch 1600")
    train.add_argument("--seed", type=int, metavar="N", help="with --data: default 0")
    evaluate = add("evaluate", _evaluate, "run weights over the test images of an experiment, or over your own")
    evaluate.add_argument("--source", choices=("weights", "train"),
                          help="the experiment's stored weights (default), or those trained here")  # fmt: skip
    calibrate = add("calibrate", _calibrate, "choose the score that counts a few annotated images of your own best")
    for command in (train, evaluate):
        command.add_argument("id", metavar="ID", nargs="?", help="see `crowdloc list all`")
        data_root(command)
    for command in (train, evaluate, calibrate):
        command.add_argument("--data", metavar="FOLDER", required=command is calibrate,
                             help="your own images, with points.csv or points.json (see the README)")  # fmt: skip
        command.add_argument("--photos", action="store_true", help="with --data: the images are no video")
    for command in (evaluate, calibrate):
        weights_options(command)
        command.add_argument("--split", choices=("train", "val", "trainval", "test", "all"),
                             default="trainval" if command is calibrate else None,
                             help="of --data (evaluate: test where the weights know the folder, else all); with an "
                             "ID: print the metrics of every image that is here, stored or not")  # fmt: skip
    evaluate.add_argument("--threshold", type=float, metavar="SCORE", help="with --data: default: the weights' own")
    calibrate.add_argument("--out", type=Path, metavar="FILE", help="write weights that count with it")

    locate = add("locate", _locate, "heads in an image, a folder of images, a video or what a camera sees")
    locate.add_argument("source", metavar="SOURCE", help="path, or the number of a camera")
    weights_options(locate)
    locate.add_argument("--threshold", type=float, metavar="SCORE", help="default: the one chosen with the weights")
    locate.add_argument("--out", type=Path, metavar="FOLDER", help="points.csv, counts.csv, run.json; the same "
                        "command goes on where it was stopped (default: points to standard output)")  # fmt: skip
    locate.add_argument("--annotate", action="store_true", help="also a film, or images, with the heads drawn in")
    locate.add_argument("--plot", action="store_true", help="also counts.png, count over time")
    locate.add_argument("--parquet", action="store_true", help="also points.parquet")
    locate.add_argument("--overwrite", action="store_true", help="throw away what an earlier run left in FOLDER")
    locate.add_argument("--photos", action="store_true", help="the images of a folder are no video")
    locate.add_argument("--fps", type=float, metavar="N", help="frames per second of a folder of frames")
    locate.add_argument("--every", type=_positive, default=1, metavar="N", help="only every N-th frame")
    locate.add_argument("--frames", type=_positive, metavar="N", help="stop after N frames")
    locate.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto",
                        help="of the front-end; auto: bf16 where the processor has it, which is faster and moves "
                        "points by hundredths of a pixel")  # fmt: skip
    locate.add_argument("--profile", action="store_true", help="say where the time went")

    data = commands.add_parser("data", help="generate SynthCrowd; describe or verify a data set")
    kinds = data.add_subparsers(metavar="ACTION", required=True)
    generate = add("generate", _generate, "write SynthCrowd", kinds)
    generate.add_argument("name", choices=("synthcrowd",))
    generate.add_argument("--preset", choices=("mini", "paper"), default="mini")
    generate.add_argument("--out", type=Path, metavar="FOLDER", help="default: build/data/synthcrowd")
    verify = add("verify", _verify, "read all of a real data set and compare it with what is published", kinds)
    verify.add_argument("name", metavar="NAME")
    data_root(verify)
    info = add("info", _info, "where to get the real data sets, their terms, the folders expected", kinds)
    info.add_argument("name", metavar="NAME", nargs="?")

    report = add("report", _report, "the report of the last run; with --source it is made anew")
    report.add_argument("--source", choices=("stored", "weights", "train"), help="what is missing is computed")
    report.add_argument("--site", action="store_true", help="build the static site around it; prints its start page")
    report.add_argument("--out", metavar="FOLDER", help="where the site goes; default: build/site")
    data_root(report)

    refresh = add("refresh", _refresh, "for authors: execute notebooks in place (all if none is named)")
    refresh.add_argument("notebook", nargs="*", metavar="NOTEBOOK")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
