"""A repository's own `.env`, fixed names of volumes, and what is told of a build or a healthcheck that failed."""

from __future__ import annotations

import pytest

from sluice.model.release import Completed
from sluice.model.secret import Redactor, Secret
from sluice.model.spec import ComposeService, ComposeSpec, ServiceMode
from sluice.runner import LocalRunner
from sluice.runtimes.compose_cli import ComposeCli, Rendered, _told_last, dotenv
from sluice.runtimes.compose_file import base_document, definitions
from sluice.runtimes.compose_modes import services_of
from sluice.runtimes.compose_ready import _examined
from sluice.runtimes.compose_values import World


@pytest.mark.parametrize(
    ("there", "chosen"),
    [((), "/dev/null"), ((".env",), ".env"), ((".env", "deploy/.env"), "deploy/.env")],
)
def test_the_env_of_the_files_folder_goes_before_the_repositorys(tmp_path, there, chosen):
    """One `.env` is taken, as Compose by hand would; without one none is looked for anywhere else."""
    (tmp_path / "deploy").mkdir()
    for name in there:
        (tmp_path / name).write_text("A=1\n")
    assert dotenv(tmp_path, tmp_path / "deploy") == str(tmp_path / chosen)


async def test_defaults_are_what_decides_and_what_runs_and_the_env_file_goes_over_them(tmp_path):
    """The same values in the document that is judged and, by the argument, in the containers."""
    (tmp_path / "compose.yaml").write_text('services: {web: {image: "a:${TAG}", command: "${WORD}"}}\n')
    (tmp_path / ".env").write_text("TAG=default\nWORD=default\n")
    cli = ComposeCli(LocalRunner(Redactor([])), "/nowhere.sock", lambda: {"WORD": Secret("server")})
    found = await cli.config(tmp_path, ["compose.yaml"], interpolate=True, settings={})
    assert (found["services"]["web"]["image"], found["services"]["web"]["command"]) == ("a:default", ["server"])
    rendered = Rendered(tmp_path / "x.json", "p", str(tmp_path), {}, dotenv(tmp_path, tmp_path))
    assert rendered.arguments()[-2:] == ["--env-file", str(tmp_path / ".env")]


def test_another_fixed_name_of_a_volume_is_another_definition():
    """A database that is left running on the old volume would be taken for the one the file describes."""

    def of(volume):
        mount = {"type": "volume", "source": "data", "target": "/d"}
        services = {"web": {"image": "w"}, "db": {"image": "d", "volumes": [mount]}}
        document = {"name": "x", "services": services, "volumes": {"data": volume}}
        spec = ComposeSpec(route="web", port=1, services={"db": ComposeService(mode=ServiceMode.SHARED)})
        plans = services_of(document, spec, World(environment="test", tree="/t", directory="/t"))
        return definitions(base_document(document, plans), plans)

    plain, same, named, other = (of(how) for how in (None, {}, {"name": "one"}, {"name": "two"}))
    assert plain == same
    assert len({plain["db"], named["db"], other["db"]}) == 3
    assert plain["web"] == named["web"]


def test_the_end_of_a_build_is_what_its_command_said():
    """Both streams, without colours and the builder's own words: the reason is on either."""
    out = "Step 3/3 : RUN make\n ---> Running in 1a2b\n\x1b[91mlamp.h: no such file\x1b[0m\n"
    noise = 'time="2026-01-01T00:00:00Z" level=warning msg="no buildx"\n Image sluice/x:1 Building \n'
    done = Completed((), 1, out, f"{noise}returned a non-zero code: 2\n", 0, timed_out=False)
    assert _told_last(done) == ["Step 3/3 : RUN make", "lamp.h: no such file", "returned a non-zero code: 2"]


def test_the_last_failed_healthcheck_is_quoted():
    """Nothing of one that said nothing or did not fail."""
    failed = {"ExitCode": 1, "Output": "no response\n"}
    for log, said in (([], ""), ([{"ExitCode": 0, "Output": "fine"}], ""), ([failed], "no response")):
        assert _examined({"State": {"Health": {"Log": log}}}).endswith(said)
    assert _examined({"State": {"Health": None}}) == ""
