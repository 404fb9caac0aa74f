# The whole reproduction: data -> evaluate or train -> notebooks -> report. `crowdloc run all` calls it.
# source: stored (recompute from stored evidence) | weights (infer again) | train (train again)
# data_root: folder of the real data sets (else CROWDLOC_DATA); notebooks whose data is not there are left out.
# Only build/ is written. A job runs again when its `key`, a hash of the code and sources that it depends on,
# changes; file times play no part: sources are `ancient`, results are compared by checksum. (No result may be
# `ancient`: Snakemake does not look at the keys of jobs behind one that runs, it counts on the files between.)
import os
import shlex
import sys

from crowdloc import graph, paths

SOURCE = config.get("source", "weights")
PLAN = graph.plan(SOURCE, config.get("data_root"))
CROWDLOC = f"{shlex.quote(sys.executable)} -m crowdloc"
DATA_ROOT = f"--data-root {shlex.quote(str(PLAN.root))}" if PLAN.root else ""
RESULTS, NOTEBOOKS = (os.path.relpath(folder, paths.BUILD) for folder in (paths.RESULTS, paths.NOTEBOOKS))
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
        input:
            lambda wildcards: graph.generated(wildcards.id),
            weights=ancient(f"{RESULTS}/{{id}}/weights.safetensors"),
        output: "evaluations/{id}.json"
        params: key=lambda wildcards: graph.experiment_key(wildcards.id, SOURCE, PLAN.root)
        threads: 2
        shell: "{CROWDLOC} evaluate {wildcards.id:q} --out {output:q} {DATA_ROOT}"

if SOURCE == "train":
    rule train:
        input:
            lambda wildcards: graph.generated(wildcards.id),
            recipe=ancient(f"{RESULTS}/{{id}}/experiment.json"),
        output: "experiments/{id}/metrics.json"
        params: key=lambda wildcards: graph.experiment_key(wildcards.id, SOURCE, PLAN.root)
        threads: 4
        shell: "{CROWDLOC} train {wildcards.id:q} --out experiments/{wildcards.id:q} {DATA_ROOT}"

rule notebook:
    input:
        lambda wildcards: PLAN.results(wildcards.name),
        notebook=ancient(f"{NOTEBOOKS}/{{name}}.ipynb"),
    output: "notebooks/{name}.ipynb"
    params: key=lambda wildcards: graph.notebook_key(wildcards.name, SOURCE)
    shell: "{CROWDLOC} run {input.notebook:q} --source {SOURCE} --out {output:q} {DATA_ROOT}"

rule report:
    input: EXECUTED, PLAN.results()
    output: "report.txt"
    params: key=graph.notebook_key("", SOURCE)
    shell: "{CROWDLOC} report > {output:q}"
