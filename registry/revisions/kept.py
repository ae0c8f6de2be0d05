"""The files of a release in the workspace, so that one that serves or served is opened, rolled back and deleted from without MLflow.

A promotion copies them to ``releases/DIGEST`` before its ledger entry names that digest. A release that earlier code promoted is copied when it
is opened for the first time since. Until then it is opened where MLflow said that it lies, which whoever asks MLflow notes. Wherever a file
comes from, it is believed only where the release's digest is the one that the ledger names.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fct.arrays.files import flush, whole_folder
from fct.errors import Altered, BadInput, FctError, NotPermitted
from fct.release.examining import open_release
from fct.release.folder import FILES, Release
from registry.mlflow import places
from registry.revisions import history
from registry.revisions.revision import Revision
from registry.workspace import Workspace


def place(workspace: Workspace, digest: str) -> Path:
    """Where a release with this digest is kept."""
    return workspace.folder / "releases" / digest


def keep(workspace: Workspace, release: Release) -> Release:
    """The release opened from its copy in the workspace, which is on the disk when this returns. A damaged copy is made anew.

    Raises:
        NotPermitted: its files are not those of its digest.
    """
    target, digest = place(workspace, release.digest()), release.digest()
    try:
        return _opened(workspace, target, digest, check=True)
    except NotPermitted:
        with whole_folder(target) as part:
            for name in FILES:
                if (release.folder / name).is_file():
                    shutil.copyfile(release.folder / name, part / name)
                    flush(part / name)
            flush(part)
            _opened(workspace, part, digest, check=True)
        flush(target.parent)
    return _opened(workspace, target, digest, check=False)


def opened(workspace: Workspace, number: int, *, check: bool = True) -> Release:
    """The release of a version: one that has served by the digest that the ledger names, whatever MLflow says of it; another one as registered.

    Raises:
        Altered: it is not the one that served or, where none of this number did, the one that was registered.
    """
    revision = history.serving(workspace.ledger)
    if revision is None or revision.release != number:
        revision = history.latest(workspace.ledger.entries()).get(number)
    return workspace.releases.release(number, check=check) if revision is None else release(workspace, revision, check=check)


def release(workspace: Workspace, revision: Revision, *, check: bool = True) -> Release:
    """The release of a revision, which names its digest.

    Args:
        check: compare every file with its digest; leave out only where that was done a moment ago. The program is not run: the same bytes
            were, before the verdict.

    Raises:
        Altered: a file was altered or is missing. As :meth:`registry.mlflow.releases.Releases.release` where MLflow must be asked.
    """
    digest = revision.release_digest
    if not place(workspace, digest).is_dir():
        found = _elsewhere(workspace, revision, check)
    else:
        try:
            return _opened(workspace, place(workspace, digest), digest, check)
        except NotPermitted:
            with suppress(Exception):  # where it is not to be had anywhere, what is said is what is wrong here
                return keep(workspace, _elsewhere(workspace, revision, check=True))
            raise
    if workspace.has_served(digest):
        with suppress(FctError):  # on a full disk it is opened where it is
            return keep(workspace, found)
    return found


def _elsewhere(workspace: Workspace, revision: Revision, check: bool) -> Release:
    """The release where MLflow said, or says now, that its files are."""
    number, digest = revision.release, revision.release_digest
    folder = places.noted(workspace.folder, workspace.settings.model, number)
    if folder is None or not folder.is_dir():
        return _opened(workspace, workspace.releases.folder_of(number), digest, check)
    try:
        return _opened(workspace, folder, digest, check)
    except NotPermitted:
        again = folder
        with suppress(Exception):  # a download that was altered here is had anew, where MLflow can give it
            if (again := workspace.releases.folder_of(number)) != folder or again.is_relative_to(workspace.folder / "cache"):
                return _opened(workspace, again, digest, check)
        raise


def _opened(workspace: Workspace, folder: Path, digest: str, check: bool) -> Release:
    try:
        opened = open_release(folder, check=check, run=False)
    except BadInput as error:
        raise Altered(f"a release that was measured is not whole any more: {error}", wanted=digest[:12]) from error
    if opened.digest() != digest:
        raise Altered("a release is not the one that was measured", wanted=digest[:12], got=opened.digest()[:12], where=folder)
    return replace(opened, approved=workspace.has_served)
