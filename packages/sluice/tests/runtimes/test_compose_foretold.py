"""Which services may turn out to have a healthcheck, asked before anything is built or pulled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sluice.model.spec import ServiceMode
from sluice.runtimes.compose_foretold import may_have_healthcheck
from sluice.runtimes.compose_values import ServicePlan
from sluice.runtimes.engine import Image

CHECKED, PLAIN = Image("sha256:1", (), (), {}, 1, True), Image("sha256:2", (), (), {}, 1, False)
HERE = {"postgres:16": CHECKED, "python:3.11": PLAIN, "shop/app": PLAIN}


class MemoryEngine:
    """Knows the images of this machine."""

    async def image(self, reference: str) -> Image | None:
        return HERE.get(reference)


async def judged(service: dict[str, Any], **others: dict[str, Any]) -> frozenset[str]:
    """Ask about `one`, and what stands beside it."""
    services = {"one": service, **others}
    plans = {
        name: ServicePlan(name, ServiceMode.RECREATE, image=how.get("image", ""), build=bool(how.get("build")))
        for name, how in services.items()
    }
    return await may_have_healthcheck(MemoryEngine(), plans, {"services": services})


@pytest.mark.parametrize(
    ("image", "may"), [("postgres:16", True), ("python:3.11", False), ("registry.example.org/unknown:1", True)]
)
async def test_an_image_of_this_machine_tells_and_one_that_is_not_here_might(image, may):
    """Only what is known for certain is demanded before the build."""
    assert await judged({"image": image}) == ({"one"} if may else frozenset())


@pytest.mark.parametrize(
    ("dockerfile", "may"),
    [
        ("FROM python:3.11\nCMD run\n", False),
        ("FROM python:3.11\nHEALTHCHECK CMD true\n", True),
        ("FROM --platform=linux/amd64 python:3.11 AS made\nFROM scratch\nCOPY --from=made /a /a\n", False),
        ("FROM python:3.11 AS made\nFROM made\n", False),
        ("FROM postgres:16\n", True),
        ("FROM nobody/knows:1\n", True),
        ("ARG BASE=python:3.11\nFROM ${BASE}\n", False),
        ("ARG BASE\nFROM $BASE\n", True),
        ("ARG GIVEN\nFROM ${GIVEN}\n", False),
    ],
)
async def test_a_dockerfile_tells_by_its_own_words_and_by_what_it_builds_upon(tmp_path: Path, dockerfile, may):
    """An instruction, or a base that has one or is not known: it might; everything known and none: it cannot."""
    (tmp_path / "Dockerfile").write_text(dockerfile)
    build = {"context": str(tmp_path), "args": {"GIVEN": "python:3.11"}}
    assert await judged({"build": build}) == ({"one"} if may else frozenset())
    assert await judged({"build": {**build, "context": "/", "dockerfile_inline": dockerfile}}) == (
        {"one"} if may else frozenset()
    )


async def test_what_cannot_be_read_might(tmp_path: Path):
    """A context that is a URL, or a Dockerfile that is not there, is the build's to judge."""
    assert await judged({"build": {"context": "https://git.example.org/shop.git"}}) == {"one"}
    assert await judged({"build": {"context": str(tmp_path)}}) == {"one"}


async def test_a_service_that_names_what_another_one_builds_is_judged_by_that(tmp_path: Path):
    """An old image of that name on the machine is not what will run."""
    (tmp_path / "Dockerfile").write_text("FROM postgres:16\n")
    built = {"image": "shop/app", "build": {"context": str(tmp_path)}}
    assert await judged({"image": "shop/app"}, two=built) == {"one", "two"}
