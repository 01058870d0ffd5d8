"""The rules of host.toml."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path

from sluice.config.rules import LAST_PORT, NAME, Rules, is_address, is_http, wrong
from sluice.gates.secret_values import looks_random
from sluice.hosts.git import without_password
from sluice.ledger import PublicKey
from sluice.model.spec import (
    EnvironmentName,
    ForgeName,
    ForgeSettings,
    HostConfig,
    HostEnvironment,
    HostService,
    HostSettings,
    RuntimeName,
)

FIRST_PORT = 1024  # below it a port needs root, and a slot never has it
LOOPBACK = ("localhost", "127.0.0.1", "::1")
REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+")
PASSWORD = re.compile(r"[^/?#@:]*:(?!\d+/).*@")  # also one with a / or @ that should have been encoded
SHORTEST_TOKEN = 20  # of the forges, and longer than people are called
MIN_PORTS = 2  # the old slot and the new one are alive together


class HostRules(Rules):
    """What host.toml must say."""

    def judge(self, host: HostConfig) -> None:
        """Raises ConfigError."""
        self._must(bool(host.service), "$.service", "names no service")
        self._settings(host.host)
        for name, service in host.service.items():
            path = f"$.service.{name}"
            self._must(bool(NAME.fullmatch(name)), path, "is not a name of the form [a-z0-9-]")
            # A leading dash would be an option of git.
            self._must(bool(service.repo) and not service.repo.startswith("-"), f"{path}.repo", "is not a repository")
            self._no_credentials(service.repo, f"{path}.repo")
            self._must(bool(service.env), f"{path}.env", "names no environment")
            for env, one in service.env.items():
                self._environment(one, f"{path}.env.{env.value}")
            if service.forge is not None:
                self._forge(service.forge, f"{path}.forge")
            self._test_elsewhere(service, f"{path}.test_ledger_key")
            self._separation(service, path)
        self._distinct(host)

    def _no_credentials(self, repo: str, path: str) -> None:
        scheme, absolute, rest = repo.partition("://")
        if not absolute:
            return  # a path, or HOST:PATH over ssh, which has no place for a password
        if PASSWORD.match(rest):
            found = "has a password in it"
        # A user of ssh is no secret, where the key is; of http a forge's token may stand alone in its place.
        elif scheme.lower() in ("http", "https") and _may_open(rest):
            found = "has a user name or token in it"
        else:
            return
        raise wrong(
            self._where,
            path,
            f"{found}: git would show it in the process list, and tell it in what it says",
            "give it to a credential helper of git, or use ssh with a deploy key",
        )

    def _forge(self, forge: ForgeSettings, path: str) -> None:
        try:
            parts = urllib.parse.urlsplit(forge.api)
            host = parts.hostname or ""
            sane = parts.port is None or parts.port > 0
        except ValueError:
            parts, host, sane = urllib.parse.urlsplit(""), "", False
        plain = not parts.query and not parts.fragment and "@" not in parts.netloc
        whole = sane and parts.scheme in ("http", "https") and bool(host) and plain
        self._must(whole, f"{path}.api", "must be the absolute URL of an API, e.g. https://git.example.org/api/v1")
        safe = parts.scheme == "https" or not forge.token_file or host in LOOPBACK
        self._must(safe, f"{path}.api", "must be https: the token would go over the network in the clear")
        named = bool(REPOSITORY.fullmatch(forge.repository)) and ".." not in forge.repository.split("/")
        deep = forge.kind is ForgeName.GITLAB or forge.repository.count("/") == 1
        self._must(named and deep, f"{path}.repository", "must be OWNER/NAME (of GitLab the whole path)")
        absolute = not forge.token_file or Path(forge.token_file).is_absolute()
        self._must(absolute, f"{path}.token_file", "must be an absolute path")

    def _test_elsewhere(self, service: HostService, path: str) -> None:
        if not service.test_ledger_key:
            return
        try:
            PublicKey.parse(service.test_ledger_key)
        except ValueError:
            raise wrong(
                self._where, path, "must be the line of ledger.key.pub, in the state folder of test's host (envs/test)"
            ) from None
        here = EnvironmentName.TEST in service.env
        self._must(not here, path, "is for a host without env.test: where test is here, its own ledger proves")
        self._must(EnvironmentName.PROD in service.env, path, "is what a promotion goes by, and there is no env.prod")

    def _environment(self, one: HostEnvironment, path: str) -> None:
        self._must(
            is_http(one.public_url), f"{path}.public_url", "must be an absolute http or https URL without a path"
        )
        self._must(Path(one.env_file).is_absolute(), f"{path}.env_file", "must be an absolute path")
        for key in ("sops_file", "age_file", "age_identity", "secret_files"):
            value = getattr(one, key)
            self._must(not value or Path(value).is_absolute(), f"{path}.{key}", "must be an absolute path")
        named = not one.secret_command or (all(one.secret_command) and Path(one.secret_command[0]).is_absolute())
        self._must(named, f"{path}.secret_command", "must be a list that begins with the absolute path of a program")
        used = not one.age_identity or bool(one.sops_file or one.age_file)
        self._must(used, f"{path}.age_identity", "is the key of sops_file and age_file, and neither is given")
        self._must(one.keep_releases >= 1, f"{path}.keep_releases", "must be at least 1, or there is no way back")
        rootless = one.runtime is RuntimeName.COMPOSE and one.run_as
        self._must(not rootless, f"{path}.run_as", "is for the runtime `process`; in Compose files `user:` says it")
        self._ingress(one, path)
        first, last = one.ports
        wanted = f"must be [first, last] between {FIRST_PORT} and {LAST_PORT}, at least {MIN_PORTS} ports"
        sane = first >= FIRST_PORT and last <= LAST_PORT and last - first + 1 >= MIN_PORTS
        self._must(sane, f"{path}.ports", wanted)
        public = urllib.parse.urlsplit(one.public_url).port
        self._must(public is None or not first <= public <= last, f"{path}.ports", "contains the port of public_url")

    def _ingress(self, one: HostEnvironment, path: str) -> None:
        for key in ("certificate", "certificate_key", "ca_file"):
            value = getattr(one, key)
            self._must(not value or Path(value).is_absolute(), f"{path}.{key}", "must be an absolute path")
        for key in ("listen", "redirect_http"):
            value = getattr(one, key)
            self._must(not value or is_address(value), f"{path}.{key}", "must be ADDRESS:PORT, e.g. 127.0.0.1:8080")
        paired = bool(one.certificate) == bool(one.certificate_key)
        self._must(paired, f"{path}.certificate_key", "and certificate come together")
        secure = one.public_url.startswith("https:")
        if one.certificate:
            self._must(secure, f"{path}.public_url", "must be https where a certificate is given")
        else:
            behind = "is missing: without a certificate something in front ends TLS, and asks Sluice's ingress there"
            self._must(not secure or bool(one.listen), f"{path}.listen", behind)
            self._must(not one.redirect_http, f"{path}.redirect_http", "is for an ingress with a certificate")

    def _settings(self, settings: HostSettings) -> None:
        for key in ("docker", "owners", "notify_file"):
            value = getattr(settings, key)
            self._must(not value or Path(value).is_absolute(), f"$.host.{key}", "must be an absolute path")
        self._must(bool(settings.docker), "$.host.docker", "is empty")
        self._must(settings.min_free_mb >= 0, "$.host.min_free_mb", "must not be negative")

    def _separation(self, service: HostService, path: str) -> None:
        # Containers of two environments are apart by themselves; the gate `host-isolation` proves it for each release.
        bare = {env: one for env, one in service.env.items() if one.runtime is RuntimeName.PROCESS}
        unseparated = [env.value for env, one in bare.items() if not one.run_as]
        if len(service.env) > 1 and unseparated and not service.demo:
            raise wrong(
                self._where,
                f"{path}.env.{unseparated[0]}.run_as",
                "is missing: test and prod share this host, so each runs as its own user (demo = true: not)",
            )
        users = [one.run_as for one in service.env.values() if one.run_as]
        self._must(len(users) == len(set(users)), f"{path}.env", "gives two environments one run_as user")

    def _distinct(self, host: HostConfig) -> None:
        seen: list[tuple[str, HostEnvironment]] = []
        for name, service in host.service.items():
            for env, one in service.env.items():
                path = f"$.service.{name}.env.{env.value}"
                for other_path, other in seen:
                    apart = one.ports[1] < other.ports[0] or other.ports[1] < one.ports[0]
                    self._must(apart, f"{path}.ports", f"overlaps {other_path}.ports")
                    self._must(one.public_url != other.public_url, f"{path}.public_url", f"is that of {other_path}")
                seen.append((path, one))


def _may_open(rest: str) -> bool:
    """Whether the user or the query of an http address may be a token: `org@` and `?x=1` are none."""
    named, at, _ = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")
    query = rest.partition("?")[2]
    user = bool(at) and (":" in named or _is_token(named))
    return user or without_password(f"?{query}") != f"?{query}" or any(map(_is_token, re.split("[&;=]", query)))


def _is_token(text: str) -> bool:
    return len(text) >= SHORTEST_TOKEN or looks_random(text)
