"""What both scripts of the accuracy page need: commands, notes, and what an earlier page says, so that what is not
measured again stays as it was.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ACCURACY.md"
DIAGNOSIS = "# Diagnosis"  # where the part of accuracy_diagnosis.py begins
NOTE = "Note: "  # how the line begins that is written anew each time
# what the numbers alone do not say
NOTES = {
    "brain_tissue": (
        "CSF stays below what was asked. In the inner slices of the slabs its Dice is .85 to .87; in the first and "
        "last labelled slice, where the edge of a tilted slab cuts the labels off, it is .4 to .55. The slices "
        "beside, which the network sees, helped grey and white matter (.901 and .922 without them) and not CSF "
        "(.825). N4 first and 20,000 passes, without them, gave .829, .903 and .923; 8,000 passes with nine of ten "
        "patches on labels .823, .902 and .922, with equal loss on trained and held-out patches (.266, .262): more of "
        "the same does not help. Twice as wide a network (width 32, 8,000 passes) gave .826, .908 and .926, with N4 "
        "first .834, .909 and .926 (12,000 passes, on a GPU), a slice more on each side .827, .908 and .926, a 3D "
        "network (patches of 96 × 96 × 16, width 24) .827, .907 and .927, CSF counted thrice in the loss .824, .903 "
        "and .925. The last slices fade, since the slabs were resampled, and labels end about where half of the "
        "brightness is left; fading slices painted into training patches gave .823, .904 and .923, and no more in "
        "those slices (.51; .54). Half of the wrong voxels lie outside the brain's labels or within 3 mm of their "
        "outline, whose place the image does not show. The labels are automatic: those of two visits of one child, in "
        "the space that the set came in, agree to .74, .85 and .87 (ten pairs of six children). Labels on whole "
        "heads, drawn by a person, are what may help."
    ),
    "brain_tumour": (
        "By patient .861, .809, .891 and .724; with 2,400 passes and without painted cysts .834, .822, .867 and .629. "
        "The last patient's dead core is fluid and dark in FLAIR, which no other patient shows: half of it was "
        "overlooked. Cysts painted into training patches, 6,000 passes and mirrored predictions came from looking at "
        "that patient, so its number flatters a little; the other three did not take part in choosing. On the way it "
        "had .662 (fewer cysts, 2,400 passes) and .684 (today's cysts, 4,000 passes); dropping a channel at random "
        "gave .559. The same training on a GPU gave .852, .807, .883 and .770. The set comes standardised, 24 to 45 % "
        "of its voxels below 0, so that N4, which wants a scanner's own intensities, refuses it. Short runs were made "
        "on a GPU."
    ),
    "retina": (
        "The rows of all passes are of a U-Net that was trained on a GPU with the recipe's settings; on two cores its "
        "passes take 42 minutes at the rate of the first minutes, which had the cores to themselves, and preparing "
        "the pictures one to two minutes more. Learnt from cross-entropy alone (segmenter.loss.dice=0), on two cores, "
        "the same passes gave .706 for hard exudates and .530 for haemorrhages (on a GPU .719 and .578), and worse "
        "outlines (Dice of haemorrhages .376 in place of .549). AUPR is counted in fine steps of the logit; a "
        "thousand steps of probability, as before, would make .687 and .626 of .706 and .634, since a network that "
        "learns overlap is sure of nearly all it finds. Older numbers are too low by about as much: 22,000 passes "
        ".688 and .565; a finer grid (1,200 pixels across the fundus, patches of as many pixels as before, a third of "
        "them softened; 20,000 passes) .664 and .210, 8,000 passes on the usual grid .663 and .182; and the short "
        "runs of the table, made on a GPU, in which even light and CLAHE do not help: without CLAHE haemorrhages are "
        "learnt sooner. The mean of four trainings gave .712 and .632, each alone .682 to .717 and .578 to .626 "
        "(counted as before): with 14 photographs and one training, exudates lie at the edge of what was asked."
    ),
    "skin": "Short runs were made on a GPU.",
    "skin_untrained": (
        "Removing hair leaves images without hair as they are; of these pictures only six have dense hair, too few to "
        "tell: see the next section."
    ),
    "skin_hairy": (
        "The pictures of the folder whose `hair_checked` is 1: a person saw the hair. Removing it helps where "
        "brightness alone decides (Otsu, superpixels), and neither helps nor harms watershed and EM. Of the 120 "
        "pictures with the highest hair score Otsu gains .0064 (standard error .0023)."
    ),
    "breast": (
        "Without the ranker, the largest region alone, Dice was .712: on these images the ranker and keep-largest "
        "choose alike. Where the network sees nothing at all (one image in ten) no ranker can help. Short runs were "
        "made on a GPU; on a processor the one without a filter gave .596, so that the filter's gain is within what "
        "two trainings differ by."
    ),
}


def done(command: Sequence[str]) -> bool:
    """Run a command and tell whether it came to its end; single cases may have failed (status 3)."""
    print("$", " ".join(command), flush=True)
    status = subprocess.run(command, check=False).returncode
    if status not in (0, 3):
        print(f"ended with status {status}: {' '.join(command)}", flush=True)
    return status in (0, 3)


class Earlier(NamedTuple):
    """A section: the rows of its first table, and the lines below that table without its note."""

    rows: list[str]
    tail: list[str]

    def of(self, variant: str) -> list[str]:
        """The rows of one variant."""
        return [row for row in self.rows if row.startswith(f"| {variant} | ")]


def earlier(page: str, title: str) -> Earlier:
    """The section of that title; empty where there is none."""
    lines = section_of(page, title)
    first = next((n for n, line in enumerate(lines) if line.startswith("|")), len(lines))
    last = next((n for n in range(first, len(lines)) if not lines[n].startswith("|")), len(lines))
    tail = "\n".join(line for line in lines[last:] if not line.startswith(NOTE)).strip("\n")
    return Earlier(lines[first + 2 : last], [*tail.split("\n"), ""] if tail else [])


def section_of(page: str, title: str) -> list[str]:
    """The lines of the section of that title, with it; none where the page lacks it."""
    parts = [part for part in page.split("\n## ") if part.split("\n", 1)[0] == title]
    return [*f"## {parts[0]}".split("\n# ")[0].rstrip().split("\n"), ""] if parts else []


def labels_of(run: Path) -> list[str]:
    return list(json.loads((run / "metrics.json").read_text())["labels"])


def with_interval(score: dict[str, Any]) -> str:
    return f"{score['mean']:.3f} ({score['ci95'][0]:.3f}–{score['ci95'][1]:.3f})"
