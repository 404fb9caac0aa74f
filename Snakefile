# The whole reproduction: data -> [train ->] evaluate -> notebooks -> report -> site. `crowdloc run all` calls it.
# --config source=stored (recompute from stored evidence) | weights (infer again) | train (train again)
# CROWDLOC_DATA: folder of the real data sets; what needs data that is not there is left out.
# Only build/ is written. A job runs again when its `key`, a hash of the code and sources that it depends on,
# changes; file times play no part: sources are in the key and are no inputs (Snakemake refuses inputs from the
# future, even `ancient` ones), results are compared by checksum.
# `threads` and `resources` (MB, minutes) are what a cluster is asked for, several times what was seen.
import os
import shlex
import sys

from crowdloc.core import paths
from crowdloc.reproduce import graph

SOURCE = config.get("source", "weights")
PLAN = graph.plan(SOURCE)
# One thread each: as many jobs as cores is fastest, and numbers do not depend on how many run.
THREADS = "OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1"
CROWDLOC = f"{shlex.quote(sys.executable)} -m crowdloc"
DATA_ROOT = '--data-root "$CROWDLOC_DATA"' if graph.is_text(PLAN.root) else ""
NOTEBOOKS = os.path.relpath(paths.NOTEBOOKS, paths.BUILD)
EXECUTED = [f"notebooks/{name}.ipynb" for name in PLAN.notebooks]

workdir: str(paths.BUILD)

rule all:
    input: EXECUTED, "report.txt", ["site/index.html"] * graph.has_site()

rule data:
    output: "data/synthcrowd.txt"
    log: "logs/data.log"
    params: key=graph.data_key()
    threads: 2
    resources: mem_mb=3000, runtime=60
    shell: "{CROWDLOC} data generate synthcrowd --preset mini --out data/synthcrowd > {output:q} 2> {log:q}"

if SOURCE == "train":
    rule train:
        input: lambda w: graph.generated(w.id) + graph.begun(w.id)
        output: "experiments/{id}/training.json"
        log: "logs/train/{id}.log"
        params: key=lambda w: graph.training_key(w.id, PLAN.root)
        threads: 1
        resources: mem_mb=8000, runtime=lambda w: 60 + round(graph.seconds("train", w.id) / 15)
        shell: "{THREADS} {CROWDLOC} train {wildcards.id:q} --key {params.key} > {log:q} 2>&1"

if SOURCE != "stored":
    rule evaluate:
        input: lambda w: graph.generated(w.id) + graph.trained(w.id, SOURCE)
        output: f"evaluations/{SOURCE}/{{id}}/evaluation.json"
        log: f"logs/evaluate/{SOURCE}/{{id}}.log"
        params: key=lambda w: graph.evaluation_key(w.id, SOURCE, PLAN.root)
        threads: 1
        resources: mem_mb=6000, runtime=120
        shell: "{THREADS} {CROWDLOC} evaluate {wildcards.id:q} --source {SOURCE} > {log:q} 2>&1"

rule notebook:
    input: lambda w: PLAN.evaluations(w.name)
    output: "notebooks/{name}.ipynb"
    log: "logs/notebook/{name}.log"
    params: key=lambda w: graph.notebook_key(w.name, SOURCE, PLAN.root, experiments=PLAN.notebooks[w.name])
    threads: 1
    resources: mem_mb=6000, runtime=120
    shell: "{CROWDLOC} run {NOTEBOOKS:q}/{wildcards.name:q}.ipynb --source {SOURCE} --out {output:q} {DATA_ROOT} > {log:q} 2>&1"

rule report:
    input: EXECUTED, PLAN.evaluations()
    output: "report.txt"
    log: "logs/report.log"
    params: key=graph.report_key(PLAN)
    threads: 1
    resources: mem_mb=6000, runtime=60
    shell: "{CROWDLOC} report --source {SOURCE} > {output:q} 2> {log:q}"

if graph.has_site():
    rule site:
        input: EXECUTED, "report.txt"
        output: "site/index.html"
        log: "logs/site.log"
        params: key=graph.site_key(PLAN)
        threads: 1
        resources: mem_mb=4000, runtime=60
        shell: "{CROWDLOC} report --site > {log:q} 2>&1"
