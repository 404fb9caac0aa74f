# The whole reproduction: data -> evaluate or train -> notebooks -> report. `crowdloc run all` calls it.
# source: stored (recompute from stored evidence) | weights (infer again) | train (train again)
# data_root: folder of the real data sets (else CROWDLOC_DATA); notebooks whose data is not there are left out.
# Only build/ is written. A job runs again when its `key`, a hash of the code and sources that it depends on,
# changes; file times play no part: sources are in the key and are no inputs (Snakemake refuses inputs from the
# future, even `ancient` ones), results are compared by checksum.
import os
import shlex
import sys

from crowdloc.core import paths
from crowdloc.reproduce import graph

SOURCE = config.get("source", "weights")
PLAN = graph.plan(SOURCE, config.get("data_root"))
CROWDLOC = f"{shlex.quote(sys.executable)} -m crowdloc"
DATA_ROOT = f"--data-root {shlex.quote(str(PLAN.root))}" if PLAN.root else ""
NOTEBOOKS = os.path.relpath(paths.NOTEBOOKS, paths.BUILD)
EXECUTED = [f"notebooks/{name}.ipynb" for name in PLAN.notebooks]

workdir: str(paths.BUILD)

rule all:
    input: EXECUTED, "report.txt"

rule data:
    output: "data/synthcrowd.txt"
    params: key=graph.data_key()
    shell: "{CROWDLOC} data generate synthcrowd --preset mini --out data/synthcrowd > {output:q}"

if SOURCE == "weights":
    rule evaluate:
        input: lambda wildcards: graph.generated(wildcards.id)
        output: "evaluations/{id}.json"
        params: key=lambda wildcards: graph.experiment_key(wildcards.id, SOURCE, PLAN.root)
        threads: 2
        shell: "{CROWDLOC} evaluate {wildcards.id:q} --out {output:q} {DATA_ROOT}"

if SOURCE == "train":
    rule train:
        input: lambda wildcards: graph.generated(wildcards.id)
        output: "experiments/{id}/metrics.json"
        params: key=lambda wildcards: graph.experiment_key(wildcards.id, SOURCE, PLAN.root)
        threads: 4
        shell: "{CROWDLOC} train {wildcards.id:q} --out experiments/{wildcards.id:q} {DATA_ROOT}"

rule notebook:
    input: lambda wildcards: PLAN.results(wildcards.name)
    output: "notebooks/{name}.ipynb"
    params: key=lambda wildcards: graph.notebook_key(wildcards.name, SOURCE)
    shell: "{CROWDLOC} run {NOTEBOOKS:q}/{wildcards.name:q}.ipynb --source {SOURCE} --out {output:q} {DATA_ROOT}"

rule report:
    input: EXECUTED, PLAN.results()
    output: "report.txt"
    params: key=graph.notebook_key("", SOURCE)
    shell: "{CROWDLOC} report > {output:q}"
