"""deploy/: what can be checked without a container engine."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))


def test_every_service_has_an_image_or_is_built_here_and_depends_on_services_that_exist():
    services = COMPOSE["services"]
    assert {"postgres", "store", "mlflow", "prefect", "receiver", "worker"} <= services.keys()
    for name, one in services.items():
        assert "image" in one or (ROOT / "deploy" / one["build"]["context"] / one["build"]["dockerfile"]).is_file(), name
        assert set(one.get("depends_on", [])) <= services.keys()


@pytest.mark.parametrize("name", ["receiver", "worker"])
def test_our_own_services_are_started_with_options_that_they_have(name):
    words = COMPOSE["services"][name]["command"].split()
    assert words[:2] == ["python", "-m"]
    known = subprocess.run([sys.executable, "-m", words[2], "--help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert all(word in known for word in words[3:] if word.startswith("--"))


def test_no_secret_is_written_down_and_every_variable_must_be_given():
    text = (ROOT / "deploy/compose.yaml").read_text(encoding="utf-8")
    variables = re.findall(r"(?<!\$)\$\{([^}]*)\}", text)
    assert variables and all(":?" in one for one in variables)


def test_the_databases_that_are_used_are_made():
    made = set(re.findall(r"CREATE DATABASE (\w+)", (ROOT / "deploy/databases.sql").read_text()))
    auth = configparser.ConfigParser()
    auth.read(ROOT / "deploy/basic_auth.ini")
    text = (ROOT / "deploy/compose.yaml").read_text(encoding="utf-8") + auth["mlflow"]["database_uri"]
    assert set(re.findall(r"@postgres/(\w+)", text)) == made
