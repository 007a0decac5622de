// The console in Debian's Chromium, against a cluster of three nodes with certificates,
// passwords, rules and data: every page, what is done there, and what goes wrong around them.
// What an action has done is asked of the API or the command line, never of the page alone.
// Usage: node --test-reporter=spec test/console/main.mjs RUSTMQ BUILD
//   RUSTMQ  the program
//   BUILD   the directory of what npm ci has installed from package-lock.json
// ONLY=text runs the tests whose name has it, or ONLY='one|another' of several; PATIENCE=ms is how
// long anything may take, of a machine that does much else; SCREENSHOTS=1 makes docs/images/console-*.png.
import { after, describe, test } from 'node:test';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Browser } from './browser.mjs';
import { Cluster } from './cluster.mjs';
import { fill } from './data.mjs';

const [rustmq, build] = process.argv.slice(2).map((path) => resolve(path));
const only = process.env.ONLY ?? '';

const begun = Date.now();
const seconds = () => ((Date.now() - begun) / 1000).toFixed(1);
const cluster = new Cluster(rustmq);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

const launching = Browser.launch(build);
await cluster.begin();
console.log(`# ${seconds()} s: three nodes serve`);
await fill(cluster);
const browser = await launching;
console.log(`# ${seconds()} s: they have data`);

// One session of each user at the first node, as a browser that has logged in: logins of one
// address are few a second.
const sessions = new Map();
const sessionOf = (user) => {
  if (!sessions.has(user)) sessions.set(user, cluster.session(user));
  return sessions.get(user);
};

// A test by one page: check(name, path, {user, …}, async (visit) => …). Of a test alone:
// options.cluster is another one.
function check(name, path, options, body) {
  if (!only.split('|').some((text) => name.includes(text))) return;
  test(name, async () => {
    const { user = 'root', session = user && (await sessionOf(user)), at = cluster } = options;
    await browser.visit(typeof at === 'function' ? await at() : at, path, { ...options, session, name }, body);
  });
}

const suite = { check, cluster, browser, sessionOf, bin: rustmq, root: fileURLToPath(new URL('../..', import.meta.url)) };

after(async () => {
  await browser.close();
  await cluster.close();
  console.log(`# ${seconds()} s in all`);
});

// Side by side: each has names of its own. What disturbs the others comes behind them.
const together = ['./shell.mjs', './session.mjs', './docs.mjs', './security.mjs', './hostile.mjs', './nodes.mjs', './topics.mjs', './shots.mjs'];
const load = (files) => Promise.all(files.map(async (file) => (await import(file)).default));
const [beside, behind, elsewhere] = await Promise.all([load(together), load(['./drains.mjs', './outages.mjs']), load(['./alone.mjs'])]);
describe('pages', { concurrency: 4 }, () => { for (const add of beside) add(suite); });
// Of two clusters, each one test behind the other.
describe('behind them', { concurrency: 2 }, () => {
  describe('outages', { concurrency: 1 }, () => { for (const add of behind) add(suite); });
  describe('alone', { concurrency: 1 }, () => { for (const add of elsewhere) add(suite); });
});
