"""Who may only write to MLflow cannot stop anybody with the tag that names the ledger's head (docs/operations.md)."""

from __future__ import annotations

import re

from registry.mark import Mark, to_tag
from tests.end_to_end.conftest import Copies, having


def test_the_tag_never_says_what_it_is_sealed_with(copy_of: Copies) -> None:
    project = having(copy_of(), ("register", "build/releases/v1"), ("ingest", "build/data"), ("reconcile", "--once"))
    releases = project.workspace().releases
    said = re.fullmatch(r"(\d+) ([0-9a-f]{64}) ([0-9a-f]{64})", releases.head_tag())
    print(releases.head_tag())
    assert said is not None
    # whoever reads the registry on the first day keeps this; nothing of the workspace is read from here on
    forged = to_tag(Mark(999_999, "f" * 64), said[2])
    having(project, ("approve", "1", "--by", "ana", "--why", "first"), ("promote", "1"))
    releases.set_head_tag(forged)
    ran = project.fct("reconcile", "--once")
    print(ran.code, ran.out, ran.err)
    assert ran.code == 0, "stopped by a tag that somebody wrote who knows MLflow alone"
    assert project.fct("search", "--id", "class-00/05").code == 0
