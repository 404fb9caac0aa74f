"""What is known of every real data set: where to get it, under which terms, its layout and its published totals."""

from __future__ import annotations

from dataclasses import dataclass

from crowdloc.datasets.files import choose


@dataclass(frozen=True)
class Facts:
    """One data set; `annotations` is the published total, `measured` what the complete official files hold, `note` why
    they differ."""

    title: str
    source: str
    terms: str
    layout: tuple[str, ...]
    frames: int
    annotations: int
    published_in: str
    measured: int | None = None
    counted_in_roi: bool = False
    note: str = ""


FACTS = {
    "sensecrowd": Facts(
        "SenseCrowd, released as VSCrowd",
        "https://github.com/HopLee6/VSCrowd-Dataset (link to a download)",
        "the page states none; ask the authors before any use but research",
        (
            "sensecrowd/videos/train_001/0001.jpg …, test_001 …",
            "sensecrowd/annotations/train_001.txt … (or video_ori/ with label_list_all/)",
        ),
        62_938,
        2_344_276,
        "Table I",
    ),
    "fdst": Facts(
        "FDST (Fudan-ShanghaiTech)",
        "https://github.com/sweetyy83/Lstn_fdst_dataset (link to a download)",
        "the page states none; ask the authors before any use but research",
        ("fdst/train_data/<video>/001.jpg with 001.json …", "fdst/test_data/<video>/…"),
        15_000,
        394_081,
        "Table I",
    ),
    "shanghaitech_a": Facts(
        "ShanghaiTech part A",
        "https://github.com/desenzhou/ShanghaiTechDataset (link to a download)",
        "the repository carries a BSD 2-clause licence; the images come from the web: research use",
        (
            "shanghaitech/part_A_final/train_data/images/IMG_1.jpg … (or part_A)",
            "shanghaitech/part_A_final/train_data/ground_truth/GT_IMG_1.mat … (or ground-truth); test_data alike",
        ),
        482,
        241_677,
        "Zhang et al. 2016",
    ),
    "shanghaitech_b": Facts(
        "ShanghaiTech part B",
        "https://github.com/desenzhou/ShanghaiTechDataset (link to a download)",
        "the repository carries a BSD 2-clause licence; the images show passers-by: research use",
        ("shanghaitech/part_B_final/… as part A",),
        716,
        88_488,
        "Zhang et al. 2016",
    ),
    "mall": Facts(
        "Mall",
        "https://personal.ie.cuhk.edu.hk/~ccloy/downloads_mall_dataset.html",
        "research only, no commercial use; cite the publications that the page names",
        ("mall/mall_gt.mat, mall/perspective_roi.mat", "mall/frames/seq_000001.jpg …"),
        2_000,
        62_316,
        "Table I",
        measured=62_315,
    ),
    "ucsd": Facts(
        "UCSD pedestrians (people counting)",
        "http://www.svcl.ucsd.edu/projects/peoplecnt/ (video ucsdpeds.zip, annotations vidf-cvpr.zip)",
        "see the page; cite Chan et al. 2008",
        (
            "ucsd/vidf/vidf1_33_000.y/vidf1_33_000_f001.png …",
            "ucsd/vidf-cvpr/vidf1_33_000_frame_full.mat …, vidf1_33_roi_mainwalkway.mat",
        ),
        2_000,
        49_885,
        "Table I",
        measured=49_496,
        counted_in_roi=True,
        note="49,885 counts points outside the image as if they lay on its border; the official counts of the 2,000 "
        "frames, 49,496 in all, do not",
    ),
    "worldexpo": Facts(
        "WorldExpo'10",
        "http://www.ee.cuhk.edu.hk/~xgwang/expo.html (on request from the authors)",
        "copyright of Shanghai Jiao Tong University; academic use on request",
        (
            "worldexpo/train_frame/<image>.jpg, worldexpo/train_label/<camera>/<image>.mat and roi.mat",
            "worldexpo/test_frame/<camera>/<image>.jpg, worldexpo/test_label/<camera>/…",
        ),
        3_980,
        199_923,
        "Table I",
    ),
    "dronecrowd": Facts(
        "DroneCrowd (full version)",
        "https://github.com/VisDrone/DroneCrowd (link to a download)",
        "see the page; cite Wen et al. 2021",
        (
            "dronecrowd/train_data/images/img001001.jpg …; val_data, test_data alike",
            "dronecrowd/train_data/ground_truth/GT_img001001.mat …; dronecrowd/annotations/00001.mat … for tracks",
        ),
        33_600,
        4_864_280,
        "Table I",
    ),
}


_LABELS = {"sensecrowd": "SenseCrowd", "fdst": "FDST", "shanghaitech_a": "ShanghaiTech A",
           "shanghaitech_b": "ShanghaiTech B", "mall": "Mall", "ucsd": "UCSD", "worldexpo": "WorldExpo",
           "dronecrowd": "DroneCrowd"}  # fmt: skip


def label(name: str) -> str:
    """A data set's name in tables and pictures; domains of SynthCrowd are called "synthcrowd-sense" and so on."""
    return _LABELS.get(name, name.replace("synthcrowd-", "SynthCrowd "))


def info(name: str | None = None) -> str:
    """Where to get the real data sets (or one of them), under which terms, and the folders that are expected."""
    if name is not None:
        choose("name", name, FACTS)
    blocks = [] if name else ["Folders stand under the data root: root=…, --data-root or CROWDLOC_DATA."]
    for key, facts in FACTS.items():
        if name in (None, key):
            blocks.append(
                f"{key}: {facts.title}\n"
                f"  published  {facts.frames:,} frames, {facts.annotations:,} annotations ({facts.published_in})\n"
                + (f"  note       {facts.note}\n" if facts.note else "")
                + f"  get it     {facts.source}\n"
                f"  terms      {facts.terms}\n"
                f"  layout     " + "\n             ".join(facts.layout)
            )
    return "\n\n".join(blocks)
