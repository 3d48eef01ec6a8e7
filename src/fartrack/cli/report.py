"""`fartrack report`: results as a page."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fartrack.errors import InputError


@dataclass(frozen=True)
class Report:
    """Turn results into a page with success and precision curves, bars, score reliability and the worst failures.

    Any folder of text files with x y w h lines joins the comparison, whoever wrote it: SEQ.txt, uav_SEQ.txt and
    SEQ/SEQ_001.txt (with its repetitions SEQ_002.txt ...) are understood, with commas, tabs or spaces.
    """

    results: Annotated[Positional[tuple[Path, ...]], arg(metavar="RESULTS...")]
    """Folders of result files, or folders of such folders (what fartrack evaluate wrote)."""
    dataset: Annotated[str, arg(metavar="DATASET")]
    """Benchmark they belong to; see fartrack evaluate --help."""
    root: Annotated[Path, arg(metavar="DIR")]
    """Folder of the benchmark."""
    subject: Annotated[str | None, arg(metavar="LABEL")] = None
    """Tracker whose failures are shown and by which sequences are sorted. Default: the first."""
    failures: Annotated[int, arg(metavar="N")] = 6
    """How many failures to show."""
    only: Annotated[tuple[str, ...], arg(metavar="NAME...")] = ()
    """Look at these sequences alone."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("out", "report")
    """Folder for report.html, the plots as PNG, the failures as JPEG and the numbers as CSV."""

    def run(self) -> int:
        """Read, score, draw; print where the page is."""
        from fartrack.evaluation.datasets import open_dataset
        from fartrack.evaluation.report import find_trackers, write_report
        from fartrack.evaluation.results import load_annotations, notes, score_folder

        if not self.results:
            raise InputError("give the folders that hold the results")
        if self.failures < 0:
            raise InputError(f"--failures is {self.failures}: give 0 or more")
        dataset = open_dataset(self.dataset, self.root)
        if dataset.hidden:
            raise InputError(f"{dataset.name}: its annotation is not public, only its server can score these results")
        if self.only:
            dataset = dataset.only(list(self.only))
        trackers = find_trackers(self.results, dataset)
        labels = [label for label, _ in trackers]
        if self.subject is not None and self.subject not in labels:
            raise InputError(f"--subject {self.subject}: no such results; there are {', '.join(labels)}")
        annotations = load_annotations(dataset)
        scored = [score_folder(label, folder, annotations) for label, folder in trackers]
        for line in notes(annotations, scored):
            print(f"fartrack: note: {line}", file=sys.stderr)
        subject = next(entry for entry in scored if entry.label == (self.subject or labels[0]))
        if subject.summary is None:
            raise InputError(f"{subject.folder}: none of its results can be scored (the notes above say why)")
        print(write_report(annotations, scored, subject, self.out, self.failures))
        return 0
