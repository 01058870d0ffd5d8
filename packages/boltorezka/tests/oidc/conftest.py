"""Our server beside an OpenID Connect provider: an independent one that behaves, and one of ours that does not."""

import base64
import hmac
import json
import shutil
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path

import httpx
import pytest
import uvicorn
from joserfc import jws
from joserfc.jwk import ECKey, JWKRegistry, RSAKey
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from boltorezka import config
from boltorezka.adapters.oidc_provider import OidcProvider
from boltorezka.app import running_server
from boltorezka.auth.sessions import SECOND
from boltorezka.testing import InProcess, VirtualClock, _serving, environment, loopback_listener

from .answers import CALLBACK

HERE = Path(__file__).parent

CLIENT_ID = "rooms of ours"
CLIENT_SECRET = "s3cret:of the+client/that%never&shows"


class Browser:
    """What a person's browser does on its way: keeps cookies, follows redirects, stops where it is told to."""

    def __init__(self, url):
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, trust_env=False)

    async def start(self, return_url="/", provider="oidc"):
        """Where our server sends the browser to sign in."""
        params = {"provider": provider, "returnUrl": return_url}
        answer = await self.http.get("/v1/auth/sso/start", params=params)
        assert answer.status_code == 302, answer.text
        return httpx.URL(answer.headers["location"])

    async def follow(self, location, until):
        """Follow redirects until one leads to an address that begins with `until`; that address."""
        for _ in range(10):
            answer = await self.http.get(location)
            assert answer.status_code in {302, 303}, answer.text
            location = answer.url.join(answer.headers["location"])
            if str(location).startswith(until):
                return location
        raise AssertionError(f"never came to {until}")

    async def to_callback(self, return_url="/"):
        """Sign in at the provider; the address it sends the browser back to."""
        return await self.follow(await self.start(return_url), self.url + CALLBACK)

    async def sign_in(self, return_url="/"):
        """The whole way; where it ended, and who is signed in then."""
        ended = await self.http.get(await self.to_callback(return_url))
        return ended, await self.session()

    async def session(self):
        """Who our server says is signed in."""
        return (await self.http.get("/v1/auth/sso/session")).json()


class RealProvider:
    """The independent provider."""

    def __init__(self, issuer):
        self.issuer = issuer

    def obey(self, **wishes):
        """Have the next sign-ins be like this (see provider.mjs)."""
        httpx.post(f"{self.issuer}/test", json=wishes, trust_env=False).raise_for_status()

    def register(self, url, **more):
        """Register a server as a client; its settings (RFC 7591)."""
        client = {"redirect_uris": [url + CALLBACK], "post_logout_redirect_uris": [f"{url}/v1/auth/sso/logged-out"]}
        answer = httpx.post(f"{self.issuer}/reg", json={**client, **more}, trust_env=False).raise_for_status().json()
        return {"OIDC_CLIENT_ID": answer["client_id"], "OIDC_CLIENT_SECRET": answer.get("client_secret", "")}


def _encoded(value):
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _bare(key):
    """The key without the uses it was published for, so that it can be misused."""
    return _imported(json.dumps({n: v for n, v in key.as_dict(private=True).items() if n not in {"use", "alg"}}))


@cache
def _imported(jwk):
    # Checking the primes of a key takes longer than a sign-in.
    return JWKRegistry.import_key(json.loads(jwk))


# Made once: a key takes longer than a sign-in.
FIRST_KEY = RSAKey.generate_key(2048, parameters={"use": "sig", "alg": "RS256", "kid": "first"})


class HostileProvider:
    """Honest until a test changes what it answers, which stands in its attributes. Its shapes are the real one's."""

    def __init__(self, issuer, clock):
        self.issuer = issuer
        self.clock = clock
        self.key = FIRST_KEY
        self.published = [self.key]
        self.nonce = ""
        self.metadata = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/auth?from=rooms",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "userinfo_endpoint": f"{issuer}/me",
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "authorization_response_iss_parameter_supported": True,
        }
        self.claims = {}
        self.userinfo = {"sub": "ann", "email": "ann@people.example", "email_verified": True, "name": "Ann"}
        self.id_token = self.signed
        self.token_refusal = None
        self.answers = {}
        self.silent = set()
        self.asked = []

    def client(self, _url):
        """The settings of our server."""
        return {"OIDC_CLIENT_ID": CLIENT_ID, "OIDC_CLIENT_SECRET": CLIENT_SECRET}

    def payload(self):
        """The claims of an honest ID token, and what the test put over them; None takes a claim away."""
        now = self.clock.now() // SECOND
        honest = {"iss": self.issuer, "aud": CLIENT_ID, "sub": "ann", "iat": now, "exp": now + 600, "nonce": self.nonce}
        return {name: value for name, value in {**honest, **self.claims}.items() if value is not None}

    def signed(self, key=None, **header):
        """The ID token, signed with our key or another one."""
        key, header = key or self.key, {"alg": "RS256", "kid": self.key.kid, **header}
        return jws.serialize_compact(header, json.dumps(self.payload()), _bare(key), algorithms=[header["alg"]])

    def unsigned(self):
        """The ID token of somebody who has no key."""
        return f"{self._unsigned('none')}."

    def signed_with_public_key(self):
        """The oldest trick: the published key taken as the secret of a MAC."""
        begun = self._unsigned("HS256")
        return f"{begun}.{_encoded(hmac.digest(self.key.as_pem(private=False), begun.encode(), 'sha256'))}"

    def _unsigned(self, alg):
        parts = ({"alg": alg, "kid": self.key.kid}, self.payload())
        return ".".join(_encoded(json.dumps(part).encode()) for part in parts)

    def on_other_curve(self):
        """A good signature of another kind, by a key that was never published."""
        return self.signed(ECKey.generate_key("P-256"), alg="ES256")

    def server(self):
        """The server, not yet serving."""
        routes = [
            Route("/.well-known/openid-configuration", self._discovery),
            Route("/jwks", self._jwks),
            Route("/token", self._token, methods=["POST"]),
            Route("/me", self._userinfo),
        ]
        config = uvicorn.Config(Starlette(routes=routes), http="httptools", lifespan="off", log_config=None)
        return uvicorn.Server(config)

    async def _discovery(self, request):
        return await self._answer(request, self.metadata)

    async def _jwks(self, request):
        return await self._answer(
            request, {"keys": [key if isinstance(key, dict) else key.as_dict(private=False) for key in self.published]}
        )

    async def _token(self, request):
        body = (await request.body()).decode()
        if self.token_refusal:
            status, content = self.token_refusal
            return await self._answer(request, content, status, body)
        return await self._answer(
            request, {"access_token": "at-sentinel", "token_type": "Bearer", "id_token": self.id_token()}, 200, body
        )

    async def _userinfo(self, request):
        return await self._answer(request, self.userinfo)

    async def _answer(self, request, content, status=200, body=""):
        self.asked.append((request.url.path, dict(request.headers), body))
        if request.url.path in self.silent:
            # Until who asked has gone.
            while (await request.receive())["type"] != "http.disconnect":
                pass
        instead = self.answers.get(request.url.path)
        if instead is not None:
            return instead
        return content if isinstance(content, Response) else JSONResponse(content, status)


@pytest.fixture(scope="session")
def provider_process():
    """One provider for all tests: it takes a second to start."""
    process = subprocess.Popen(
        ["node", "provider.mjs"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with process:
        yield RealProvider(json.loads(process.stdout.readline())["issuer"])
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.fixture
def provider(provider_process):
    """The provider as it is at the beginning: Ann signs in."""
    provider_process.obey(account="ann", deny=False, claimsInIdToken=False)
    return provider_process


@pytest.fixture
def serving(tmp_path, migrated):
    """Start our server with the oidc driver; `client` makes its settings from the address it will have."""

    @asynccontextmanager
    async def serve(issuer, client, clock=None, **settings):
        shutil.copy(migrated, tmp_path)
        listener, url = loopback_listener()
        with listener:
            chosen = {
                "LOGINS_PER_MINUTE": "100000",
                "SSO_DRIVER": "oidc",
                "OIDC_ISSUER": issuer,
                **client(url),
                **settings,
            }
            loaded = config.load(environment(tmp_path, "", url, SUPER_ADMIN_EMAIL="ann@people.example", **chosen))
            async with running_server(loaded, clock) as server, _serving(server.uvicorn, listener):
                yield InProcess(url, loaded, server)

    return serve


@pytest.fixture
async def rooms(serving, provider):
    """Our server, a confidential client of the real provider."""
    async with serving(provider.issuer, provider.register) as server:
        yield server


@pytest.fixture
async def browse():
    """Make a browser for a server."""
    async with AsyncExitStack() as stack:

        async def open_one(url):
            browser = Browser(url)
            await stack.enter_async_context(browser.http)
            return browser

        yield open_one


@pytest.fixture
async def browser(rooms, browse):
    """A browser of our server."""
    return await browse(rooms.url)


@pytest.fixture
def clock():
    """The clock of our server and of the hostile provider."""
    return VirtualClock()


@pytest.fixture
async def hostile(clock):
    """A provider that answers as a test wants it to."""
    listener, url = loopback_listener()
    provider = HostileProvider(url, clock)
    async with _serving(provider.server(), listener):
        yield provider


@pytest.fixture
async def deceiving(serving, hostile, clock):
    """Our server, a client of the hostile provider."""
    async with serving(hostile.issuer, hostile.client, clock) as server:
        yield server


@pytest.fixture
async def deceived(deceiving, browse):
    """A browser of our server, which is a client of the hostile provider."""
    return await browse(deceiving.url)


@pytest.fixture
def banned(deceiving, clock):
    """Ban a user of the deceived server."""

    async def ban(user_id):
        await deceiving.server.store.set_banned(user_id, banned=True, at=clock.now())

    return ban


@pytest.fixture
def real_id_token(rooms, monkeypatch):
    """Exchange a code of the real provider through our server; the ID token it gave."""
    seen = []
    verified = OidcProvider.verified

    async def watched(self, id_token):
        seen.append(id_token)
        return await verified(self, id_token)

    monkeypatch.setattr(OidcProvider, "verified", watched)

    async def exchange(browser, callback):
        await browser.http.get(callback)
        return seen[0]

    return exchange


@pytest.fixture
def closed_port():
    """An address nobody listens on."""
    listener, url = loopback_listener()
    with listener:
        yield url
