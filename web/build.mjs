// Builds the client into dist/ (index.html and hashed assets), or with --tests the tests into a cache folder.
import { build } from "esbuild";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
// Browsers of the last three years; older ones have no reliable :has(), inset or ES2022.
const target = ["chrome110", "firefox115", "safari16.4"];

async function tests() {
  const outdir = path.join(here, "node_modules/.cache/boltorezka-tests");
  await rm(outdir, { recursive: true, force: true });
  const names = (await readdir(path.join(here, "tests"))).filter((name) => name.endsWith(".test.ts"));
  await build({
    entryPoints: names.map((name) => path.join(here, "tests", name)),
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
    logLevel: "warning",
  });
}

async function client() {
  const outdir = path.join(here, "dist");
  await rm(outdir, { recursive: true, force: true });
  const { metafile } = await build({
    absWorkingDir: here,
    entryPoints: { app: "src/main.ts", style: "src/ui/style.css", icon: "src/ui/icon.svg" },
    outdir,
    entryNames: "assets/[name]-[hash]",
    bundle: true,
    minify: true,
    format: "esm",
    target,
    loader: { ".svg": "copy" },
    metafile: true,
    logLevel: "warning",
  });
  const asset = (name, extension) => {
    const found = Object.keys(metafile.outputs).find((file) => {
      const base = path.basename(file);
      return base.startsWith(`${name}-`) && base.endsWith(extension);
    });
    if (found === undefined) throw new Error(`the bundler made no ${name}*${extension}`);
    return `/${path.relative(outdir, path.resolve(here, found)).split(path.sep).join("/")}`;
  };
  await mkdir(outdir, { recursive: true });
  await writeFile(path.join(outdir, "index.html"), page(asset("app", ".js"), asset("style", ".css"), asset("icon", ".svg")));
}

// No inline script or style: the page lives under `default-src 'self'`.
const page = (script, style, icon) => `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>Boltorezka</title>
    <link rel="icon" href="${icon}" type="image/svg+xml">
    <link rel="stylesheet" href="${style}">
    <script type="module" src="${script}"></script>
  </head>
  <body>
    <div id="app"></div>
    <noscript>Boltorezka needs JavaScript.</noscript>
  </body>
</html>
`;

await (process.argv.includes("--tests") ? tests() : client());
