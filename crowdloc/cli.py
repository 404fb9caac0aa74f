"""The command `crowdloc`. Every sub-command imports what it needs only when it runs."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from crowdloc.errors import CrowdlocError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"crowdloc: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Exit status: 0, 1 for a failed check or job, 2 for an error that the user can mend."""
    from crowdloc.locking import follow_leader

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
    except KeyboardInterrupt:
        print("crowdloc: stopped", file=sys.stderr)
        return 130
    print(f"crowdloc: error: {message}", file=sys.stderr)
    return 2


def _call(module: str, function: str, *arguments: Any, **options: Any) -> Any:
    return getattr(import_module(module), function)(*arguments, **options)


def _list(o: argparse.Namespace) -> None:
    print(_call("crowdloc.experiments", "list_experiments").to_string(index=False))


def _run(o: argparse.Namespace) -> int:
    if o.notebook == "all":
        if o.parameter or o.out:
            raise CrowdlocError("run all takes neither --parameter nor --out: name one notebook")
        return int(_call("crowdloc.graph", "run", o.source or "weights", o.data_root, o.cores, o.snakemake))
    from crowdloc import notebooks

    given = {name: notebooks.literal(value) for name, value in o.parameter}
    if o.source:
        given["source"] = o.source
    if o.data_root:
        from crowdloc.paths import require_data_root

        given["data_root"] = str(require_data_root(o.data_root).resolve())
    print(notebooks.run(notebooks.find(o.notebook), given, o.out))
    return 0


def _refresh(o: argparse.Namespace) -> None:
    from crowdloc import notebooks

    for path in [notebooks.find(name) for name in o.notebook] or notebooks.numbered():
        print(f"{path.name}: {'changed' if notebooks.refresh(path) else 'unchanged'}", flush=True)


def _check(o: argparse.Namespace) -> int:
    return 0 if _call("crowdloc.results", "check", data_root=o.data_root) in (None, True) else 1


def _train(o: argparse.Namespace) -> None:
    from crowdloc.locking import locked
    from crowdloc.paths import BUILD

    out = o.out or BUILD / "experiments" / o.id
    with locked(Path(out) / ".lock", f"training of {o.id}"):
        _call("crowdloc.experiments", "train", o.id, out=Path(out), data_root=o.data_root)


def _evaluate(o: argparse.Namespace) -> None:
    from crowdloc.paths import BUILD

    out = o.out or BUILD / "evaluations" / f"{o.id}.json"
    _call("crowdloc.experiments", "evaluate_stored_weights", o.id, out=Path(out), data_root=o.data_root)


def _locate(o: argparse.Namespace) -> None:
    points = _call("crowdloc", "locate", o.image_folder_or_video, weights=o.weights)
    if o.out:
        from crowdloc.paths import atomic_write

        with atomic_write(o.out) as temporary:
            points.to_csv(temporary, index=False)
    else:
        points.to_csv(sys.stdout, index=False)


def _generate(o: argparse.Namespace) -> None:
    from crowdloc.paths import BUILD

    out = o.out or BUILD / "data" / "synthcrowd"
    _call("crowdloc.datasets.synthcrowd", "generate", preset=o.preset, out=Path(out))


def _parser() -> _Parser:
    parser = _Parser(
        prog="crowdloc", description="Companion of GNANet: rerun, check and use everything of the paper."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, call: Any, help: str, to: Any = commands) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = to.add_parser(name, help=help, description=help)
        command.set_defaults(call=call)
        return command

    def data_root(command: argparse.ArgumentParser) -> None:
        command.add_argument("--data-root", metavar="FOLDER", help="real data sets (default: CROWDLOC_DATA)")

    add("list", _list, "experiments: id, data, preset and what is stored of each")

    run = add("run", _run, "execute one notebook, or all with what they need, into build/notebooks")
    run.add_argument(
        "notebook", metavar="NOTEBOOK|all", help="path, name or number; all: the whole reproduction"
    )
    run.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    run.add_argument("--source", choices=("stored", "weights", "train"), help="all: weights unless given")
    run.add_argument(
        "--cores", type=_positive, metavar="N", help="cores that `all` may use (default: every one)"
    )
    run.add_argument("--out", type=Path, metavar="FILE", help="where the executed notebook goes")
    run.add_argument("--snakemake", nargs=argparse.REMAINDER, default=[], metavar="OPTION",
                     help="the rest of the line goes to Snakemake: --executor slurm --jobs 20")  # fmt: skip
    data_root(run)

    data_root(add("check", _check, "recompute every stored metric from its stored evidence"))

    promote = add(
        "promote",
        lambda o: _call("crowdloc.experiments", "promote", o.id),
        "move a run from build/ to results/",
    )
    promote.add_argument("id", metavar="ID")

    train = add("train", _train, "train an experiment; an interrupted one goes on where it stopped")
    evaluate = add("evaluate", _evaluate, "run an experiment's stored weights again on its test data")
    for command in (train, evaluate):
        command.add_argument("id", metavar="ID", help="see crowdloc list")
        command.add_argument("--out", type=Path, metavar="PATH", help="default: under build/")
        data_root(command)

    locate = add("locate", _locate, "heads in an image, a folder of images or a video, as CSV")
    locate.add_argument("image_folder_or_video", metavar="SOURCE")
    locate.add_argument("--weights", metavar="FILE", help="safetensors file (default: the stored GNANet)")
    locate.add_argument("--out", type=Path, metavar="CSV", help="default: standard output")

    data = commands.add_parser("data", help="generate SynthCrowd; describe or verify a data set")
    kinds = data.add_subparsers(metavar="ACTION", required=True)
    generate = add("generate", _generate, "write SynthCrowd", kinds)
    generate.add_argument("name", choices=("synthcrowd",))
    generate.add_argument("--preset", choices=("mini", "paper"), default="mini")
    generate.add_argument("--out", type=Path, metavar="FOLDER", help="default: build/data/synthcrowd")
    verify = add("verify", lambda o: _print(_call("crowdloc.datasets", "verify", o.name, root=o.data_root)),
                 "check that a data set is complete and well formed", kinds)  # fmt: skip
    verify.add_argument("name", metavar="NAME")
    data_root(verify)
    info = add("info", lambda o: _print(_call("crowdloc.datasets", "info", o.name)),
               "where a data set comes from and the layout that is expected", kinds)  # fmt: skip
    info.add_argument("name", metavar="NAME", nargs="?")

    add("report", lambda o: _call("crowdloc.results", "report"), "the summary table of the last run")

    refresh = add("refresh", _refresh, "for authors: execute notebooks in place (all if none is named)")
    refresh.add_argument("notebook", nargs="*", metavar="NOTEBOOK")
    return parser


def _print(text: Any) -> None:
    if text is not None:
        print(text)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
