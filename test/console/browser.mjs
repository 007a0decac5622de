// Chromium, and visits to the console: each in a profile of its own, watched while it lasts.
// What a page says on its console, throws, is refused by its policy, asks of others, or is
// refused by the server is a fault, unless the visit expects it.
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-dev-shm-usage', '--force-prefers-reduced-motion'];

// How long a page may take for what it is asked: a bound, not a wait.
const patience = Number(process.env.PATIENCE ?? 30_000);

export const desktop = { width: 1280, height: 800 };
export const phone = { width: 390, height: 844 };

export class Browser {
  // build is the directory of what npm ci has installed (scripts/deps.sh).
  static async launch(build) {
    const require = createRequire(join(build, 'package.json'));
    const { chromium } = require('playwright-core');
    const browser = new Browser();
    browser.axe = require('axe-core').source;
    browser.failed = join(build, 'failed');
    mkdirSync(browser.failed, { recursive: true });
    // No name resolves: what is not of the node's own address is not there.
    browser.chromium = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: [...flags, '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.*'] });
    return browser;
  }

  close() {
    return this.chromium.close();
  }

  // Opens a page of a node's console at path, as a user (null: nobody), has body do something
  // with the visit, and judges. options: node, viewport, scheme ("light" or "dark"),
  // session (what Cluster.session has returned), expects (patterns of faults that belong to it).
  async visit(cluster, path, options, body) {
    const { node = 1, viewport = desktop, scheme = 'light', session, expects = [], name = path, anyway = false } = options;
    const context = await this.chromium.newContext({ ignoreHTTPSErrors: true, viewport, colorScheme: scheme, reducedMotion: 'reduce', locale: 'en-GB', timezoneId: 'UTC', acceptDownloads: true });
    context.setDefaultTimeout(patience);
    if (session) await context.addCookies([{ name: session.name, value: session.value, url: session.url, httpOnly: true, secure: session.secure, sameSite: 'Strict' }]);
    await context.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (e) => console.error(`refused by the policy: ${e.violatedDirective}: ${e.blockedURI}`));
    });
    const page = await context.newPage();
    const visit = new Visit(this, cluster, page, cluster.url(node), expects);
    try {
      const answer = await page.goto(visit.origin + path, { waitUntil: 'domcontentloaded' });
      visit.answer = answer;
      await body(visit);
      visit.judge();
      visit.ends = true;
    } catch (error) {
      const picture = join(this.failed, `${name.replaceAll(/[^a-z0-9]+/gi, '-').slice(0, 80)}.png`);
      await page.screenshot({ path: picture, timeout: 5000 }).catch(() => {});
      const where = `at ${page.url()}, ${picture}`;
      throw new Error([error.message, where, ...visit.faults].join('\n  '), { cause: error });
    } finally {
      await context.close().catch((error) => { if (!anyway) throw error; });
    }
  }
}

export class Visit {
  constructor(browser, cluster, page, origin, expects) {
    Object.assign(this, { browser, cluster, page, origin, expects, faults: [], requests: [] });
    page.on('console', (said) => { if (['error', 'warning', 'assert'].includes(said.type())) this.fault(`console: ${said.text()} (${said.location().url})`); });
    page.on('pageerror', (error) => this.fault(`thrown: ${error.stack ?? error}`));
    page.on('request', (request) => {
      this.requests.push(`${request.method()} ${request.url().replace(this.origin, '')}`);
      if (!request.url().startsWith(`${this.origin}/`) && !/^(data|blob):/.test(request.url())) this.fault(`asks elsewhere: ${request.url()}`);
    });
    // Who leaves a page, or closes a stream, gives up what was on its way.
    page.on('requestfailed', (request) => { if (request.failure()?.errorText !== 'net::ERR_ABORTED') this.fault(`failed: ${request.method()} ${request.url()}: ${request.failure()?.errorText}`); });
    page.on('response', (response) => { if (response.status() >= 400) this.fault(`answered ${response.status()}: ${response.request().method()} ${response.url()}`); });
    page.on('dialog', (dialog) => { this.fault(`a dialog of the browser: ${dialog.message()}`); dialog.dismiss().catch(() => {}); });
  }

  fault(what) {
    if (!this.expects.some((pattern) => pattern.test(what))) this.faults.push(what);
  }

  // Fails if anything was wrong so far.
  judge() {
    if (this.faults.length > 0) throw new Error(`the page has ${this.faults.length} faults`);
  }

  // Whether a call of the API was made that begins so.
  asked(call) {
    return this.requests.some((made) => made.startsWith(call));
  }
}
