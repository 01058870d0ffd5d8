// An independent OpenID Connect provider (npm oidc-provider) for the tests: in memory, on a free loopback port, without
// a person. Prints {"issuer"} when it listens, and ends with its stdin.
//
// Beside the protocol it answers POST /test with what the next sign-ins shall be: {"account"} who signs in, {"deny"}
// whether they refuse, {"rotate": true} replaces the signing key, {"claimsInIdToken"} puts e-mail and name there.

import { createServer } from "node:http";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import Provider from "oidc-provider";
import MemoryAdapter from "./node_modules/oidc-provider/lib/adapters/memory_adapter.js";

const ACCOUNTS = {
  ann: { email: "ann@people.example", email_verified: true, name: "Ann" },
  boris: { email: "boris@people.example", email_verified: true, name: "Boris" },
  // Claims the address of somebody else, which the provider has not verified.
  mallory: { email: "ann@people.example", email_verified: false, name: "Ann" },
};

// oidc-provider talks about development settings; stdout is for the issuer and stderr for what is wrong.
console.info = console.warn = () => {};

const state = { account: "ann", deny: false, claimsInIdToken: false, key: newKey() };
// What clients, sessions and codes there are outlives a change of keys.
const kept = new Map();
let issuer;
let provider;
let handle;

class KeptAdapter extends MemoryAdapter {
  constructor(model) {
    super(model, kept);
  }
}

function newKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "RS256" };
}

function configuration() {
  return {
    adapter: KeptAdapter,
    jwks: { keys: [state.key] },
    cookies: { keys: ["tests"] },
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
    conformIdTokenClaims: !state.claimsInIdToken,
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      rpInitiatedLogout: { enabled: true },
    },
    pkce: { required: () => true },
    ttl: { Session: 600, Grant: 600, Interaction: 600, AccessToken: 600, IdToken: 600 },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...ACCOUNTS[id] }) }),
  };
}

function renew() {
  provider = new Provider(issuer, configuration());
  handle = provider.callback();
}

async function interact(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  let result;
  if (state.deny) {
    result = { error: "access_denied", error_description: "the person said no" };
  } else if (prompt.name === "login") {
    result = { login: { accountId: state.account } };
  } else {
    const grant = grantId
      ? await provider.Grant.find(grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    result = { consent: { grantId: await grant.save() } };
  }
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

async function obey(request, response) {
  let body = "";
  for await (const chunk of request) body += chunk;
  const { rotate, ...rest } = JSON.parse(body);
  Object.assign(state, rest, rotate ? { key: newKey() } : {});
  renew();
  response.writeHead(204).end();
}

const server = createServer((request, response) => {
  const answer = request.url === "/test" ? obey : request.url.startsWith("/interaction/") ? interact : handle;
  Promise.resolve(answer(request, response)).catch((error) => {
    console.error(error);
    response.writeHead(500).end();
  });
});

server.listen(0, "127.0.0.1", () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  renew();
  console.log(JSON.stringify({ issuer }));
});
process.stdin.on("end", () => process.exit(0)).resume();
