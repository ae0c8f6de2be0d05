"""All commands, in three groups: any vectors (files in, files out), the development pipeline, the life of a release."""

from __future__ import annotations

import typer

from flows.cli import development, evaluating, fitting, gallery, operations, services, trial, wrapping

app = typer.Typer(
    name="fct",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Release a new version of your embedding model without embedding the gallery again: you register version 2, and its gallery is computed from the stored vectors.\n\n"
    "A first release:  fct register build/releases/v1  →  fct ingest build/data  →  fct reconcile --once  →  fct approve 1 --by ana --why first  →  fct promote 1\n\n"
    "The next one:  fct register build/releases/v2  →  fct reconcile --once  →  (look at the report)  →  fct approve 2 …  →  fct promote 2\n\n"
    "Exit codes: 0 done · 1 an operation failed · 2 bad input · 3 not permitted by verdict, approval or digest · 130 interrupted.",
)
trial.add_to(app)
fitting.add_to(app)
evaluating.add_to(app)
development.add_to(app)
wrapping.add_to(app)
operations.add_to(app)
gallery.add_to(app)
services.add_to(app)
