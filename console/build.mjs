// Builds the console: src/main.tsx and what it reaches, into dist/. Names of files are made of
// what is in them, so that a browser may keep each for ever; index.html alone is asked for again.
// Two builds of the same sources are the same bytes: nothing of the time or the place gets in.
//
//   node build.mjs            build into dist/
//   node build.mjs OTHER      build into OTHER
import { build } from "esbuild";
import { gzipSync } from "node:zlib";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "dist");

// What a browser loads before it shows the first page, gzipped.
const mostFirstLoad = 150 * 1024;

await mkdir(out, { recursive: true });
await writeFile(join(out, ".keep"), ""); // embedded too: it is there in a clone before the first build
for (const name of await readdir(out)) {
  if (name !== ".keep") await rm(join(out, name), { recursive: true });
}
const result = await build({
  absWorkingDir: here,
  entryPoints: ["src/main.tsx"],
  outdir: join(out, "assets"),
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["es2022"],
  platform: "browser",
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: true,
  charset: "utf8",
  legalComments: "none", // licences.txt has them
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  metafile: true,
  logLevel: "warning",
});

const outputs = Object.entries(result.metafile.outputs).map(([path, o]) => ({ path: join(here, path), ...o }));
const entry = outputs.find((o) => o.entryPoint === "src/main.tsx");
const at = (path) => "/" + relative(out, path).replaceAll("\\", "/");
const byPath = new Map(outputs.map((o) => [o.path, o]));

// first is the entry with all that it imports at once.
const first = new Set();
(function reach(path) {
  if (first.has(path)) return;
  first.add(path);
  for (const i of byPath.get(path)?.imports ?? []) {
    if (i.kind === "import-statement") reach(join(here, i.path));
  }
})(entry.path);
const css = join(here, entry.cssBundle);

const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>rustmq</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="${at(css)}">
${[...first].filter((p) => p !== entry.path).sort().map((p) => `<link rel="modulepreload" href="${at(p)}">\n`).join("")}<script type="module" src="${at(entry.path)}"></script>
</head>
<body>
<div id="app"></div>
<noscript>The console of rustmq is a program in JavaScript, which this browser does not run. The same is done by <code>rustmq admin</code>, and shown at <a href="/api/v1/docs">/api/v1/docs</a>.</noscript>
</body>
</html>
`;
await writeFile(join(out, "index.html"), html);

let licences = "Of others, in the files beside this one:\n";
for (const name of ["preact", "uplot"]) {
  const root = join(here, "node_modules", name);
  const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  licences += `\n${name} ${version}\n\n${await readFile(join(root, "LICENSE"), "utf8")}`;
}
await writeFile(join(out, "licences.txt"), licences);

let size = gzipSync(html).length;
for (const path of [...first, css]) size += gzipSync(await readFile(path)).length;
console.log(`console: ${(size / 1024).toFixed(1)} KiB gzipped for the first page, of ${mostFirstLoad / 1024}`);
if (size > mostFirstLoad) {
  console.error("console: the first page is too large: load what it does not need by import()");
  process.exit(1);
}
