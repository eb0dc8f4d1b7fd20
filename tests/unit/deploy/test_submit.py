"""`deploy/spark/submit` makes the command line of spark-submit; here it is read, not run."""

from itertools import pairwise
import os
from pathlib import Path
import shlex
import subprocess

import pytest

from fraudstream.inference import session

SUBMIT = Path("deploy/spark/submit").resolve()
STANDALONE = ["standalone", "--master", "spark://m:7077"]
KUBERNETES = ["kubernetes", "--master", "k8s://https://h:6443"]
RUN = ["--", "run", "--checkpoint", "/a place"]


@pytest.fixture
def pex(tmp_path):
    pex = tmp_path / "inference.pex"
    pex.touch()
    return pex


def submit(*arguments, **environment):
    return subprocess.run(
        [str(SUBMIT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"PATH": os.environ["PATH"], **environment},
    )


def shown(pex, *arguments, **environment):
    """Return the commands that would be run."""
    said = submit(arguments[0], "--dry-run", "--pex", str(pex), *arguments[1:], **environment)
    assert said.returncode == 0, said.stderr
    return [shlex.split(line) for line in said.stdout.splitlines()]


def confs(command):
    return [value for name, value in pairwise(command) if name == "--conf"]


def test_the_pex_is_submitted_by_a_link_whose_name_spark_takes_for_a_program_of_python(pex):
    link, command = shown(pex, *STANDALONE, *RUN)
    program = str(pex.with_suffix(".py"))
    assert link == ["ln", "--symbolic", "--force", str(pex), program]
    assert command[-4:] == [program, "run", "--checkpoint", "/a place"]


def test_spark_is_told_the_connector_before_it_starts_and_leaves_out_what_it_has(pex):
    _, command = shown(pex, *STANDALONE, *RUN)
    assert command[command.index("--packages") + 1] == session.CONNECTOR
    assert command[command.index("--exclude-packages") + 1] == session.OF_SPARK


def test_on_a_standalone_cluster_the_driver_runs_here(pex):
    _, command = shown(pex, *STANDALONE, *RUN, SPARK_HOME="/opt/spark")
    assert command[:5] == [
        "/opt/spark/bin/spark-submit",
        *("--master", "spark://m:7077", "--deploy-mode", "client"),
    ]
    assert confs(command) == ["spark.pyspark.driver.python=python3.11"]


def test_on_yarn_the_driver_runs_on_the_cluster_and_unpacks_in_its_container(pex):
    _, command = shown(pex, "yarn", *RUN)
    assert command[:5] == ["spark-submit", "--master", "yarn", "--deploy-mode", "cluster"]
    assert "spark.executorEnv.PEX_ROOT=./pex-root" in confs(command)
    assert "spark.yarn.appMasterEnv.PEX_ROOT=./pex-root" in confs(command)
    _, here = shown(pex, "yarn", "--deploy-mode", "client", *RUN)
    assert here[4] == "client"


def test_on_kubernetes_the_image_and_the_place_for_the_pex_are_told(pex):
    told = ["--image", "example/spark:4.2.0", "--upload-path", "s3a://b/uploads"]
    _, command = shown(pex, *KUBERNETES, *told, *RUN)
    assert command[3:5] == ["--deploy-mode", "cluster"]
    assert "spark.kubernetes.container.image=example/spark:4.2.0" in confs(command)
    assert "spark.kubernetes.file.upload.path=s3a://b/uploads" in confs(command)
    assert "spark.kubernetes.driverEnv.PEX_ROOT=/tmp/pex" in confs(command)


def test_what_is_given_goes_to_spark_submit_after_what_is_set_so_that_it_counts(pex):
    given = ["--conf", "spark.executorEnv.PEX_ROOT=/var/cache/pex", "--num-executors", "3"]
    _, command = shown(pex, "yarn", *given, *RUN)
    assert command[-8:-4] == given
    assert confs(command)[-1] == "spark.executorEnv.PEX_ROOT=/var/cache/pex"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["standalone", *RUN], "needs --master spark://HOST:PORT"),
        (["standalone", "--master", "yarn", *RUN], "needs --master spark://HOST:PORT"),
        ([*STANDALONE, "--deploy-mode", "cluster", *RUN], "with --deploy-mode client only"),
        (["kubernetes", *RUN], "needs --master k8s://https://HOST:PORT"),
        ([*KUBERNETES, *RUN], "needs --image IMAGE"),
        ([*KUBERNETES, "--image", "i", *RUN], "needs --upload-path URI"),
        ([*KUBERNETES, "--image", *RUN], "--image needs a value"),
        (["yarn"], "expected -- and what inference.pex is to do"),
        (["yarn", "--"], "expected -- and what inference.pex is to do"),
    ],
)
def test_what_is_missing_is_told_in_one_line(pex, arguments, problem):
    said = submit(arguments[0], "--pex", str(pex), *arguments[1:])
    assert said.returncode == 2
    [line] = said.stderr.splitlines()
    assert problem in line


def test_a_pex_that_is_not_there_is_told(tmp_path):
    said = submit(*STANDALONE, "--pex", str(tmp_path / "absent.pex"), *RUN)
    assert said.returncode == 2
    assert "absent.pex: ./pants package" in said.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["yarn", "--help"]])
def test_help_teaches(arguments):
    said = submit(*arguments)
    assert said.returncode == 0
    for form in ("standalone", "yarn", "kubernetes"):
        assert form in said.stdout


def test_without_a_form_the_usage_is_told():
    said = submit("mesos")
    assert said.returncode == 2
    assert said.stderr.startswith("usage: deploy/spark/submit")
