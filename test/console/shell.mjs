// What is around every page: its headers and size, the way from page to page, colours, the phone.
import assert from 'node:assert/strict';
import { accessible, fits, reachable } from './judge.mjs';
import { phone } from './browser.mjs';

const firstLoad = 150 * 1024; // bytes, gzipped: docs/console.md

export default function ({ check, cluster }) {
  check('shell: a strict policy, and little to load', '/', {}, async (visit) => {
    const { page } = visit;
    await page.getByRole('heading', { level: 1 }).waitFor();
    const headers = visit.answer.headers();
    const policy = headers['content-security-policy'];
    for (const rule of ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]) assert.match(policy, new RegExp(rule));
    assert.doesNotMatch(policy, /unsafe|https?:|\*/);
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['referrer-policy'], 'no-referrer');
    assert.equal(headers['cache-control'], 'no-cache');
    const assets = [...new Set(visit.requests)].filter((made) => made.startsWith('GET /assets/'));
    assert.ok(assets.length > 0, visit.requests.join('\n'));
    let bytes = 0;
    for (const made of ['GET /', ...assets]) {
      const answer = await cluster.call('GET', made.slice(4), undefined, { headers: { 'Accept': 'text/html,*/*', 'Accept-Encoding': 'gzip' } });
      assert.equal(answer.headers['content-encoding'], 'gzip', made);
      if (made !== 'GET /') assert.match(answer.headers['cache-control'], /immutable/, made);
      bytes += Number(answer.headers['content-length'] ?? answer.bytes);
    }
    console.log(`# the first page is ${(bytes / 1024).toFixed(1)} KiB of ${assets.length + 1} files, gzipped`);
    assert.ok(bytes < firstLoad, `${bytes} bytes`);
  });

  check('shell: the overview tells topics of users from internal ones, and what costs little from nothing', '/', {}, async ({ page }) => {
    await page.getByText(/^3 brokers in service, \d+ topics with \d+ partitions, beside \d internal topics?$/).waitFor();
    await page.getByRole('heading', { name: 'Cost of the bucket' }).waitFor();
    const storage = page.getByText(/^\$0\.0{2,}[1-9]\d* for [\d.]+ [KM]iB$|^less than \$0\.000001 for/);
    await storage.waitFor();
    assert.equal(await page.getByText(/\$0\.0+(?!\d)/).count(), 0, 'nothing that is more than nothing is zero');
  });

  check('shell: an address that is no page says so', '/no/such/page', {}, async (visit) => {
    await visit.page.getByRole('heading', { name: 'Not found', level: 1 }).waitFor();
    await accessible(visit, 'light');
  });

  check('shell: the skip link leads to the page, and back goes back', '/topics', {}, async (visit) => {
    const { page } = visit;
    await page.getByRole('heading', { name: 'Topics', level: 1 }).waitFor();
    await page.keyboard.press('Tab');
    const skip = page.getByRole('link', { name: 'Skip to the page' });
    assert.equal(await skip.evaluate((e) => e === document.activeElement && e.getBoundingClientRect().top >= 0), true, 'it is the first, and is seen');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement?.id === 'main');
    const areas = page.getByRole('navigation', { name: 'Areas' });
    await areas.getByRole('link', { name: 'Groups' }).click();
    await page.getByRole('heading', { name: 'Groups', level: 1 }).waitFor();
    assert.equal(await areas.getByRole('link', { name: 'Groups' }).getAttribute('aria-current'), 'page');
    assert.match(await page.title(), /Groups/);
    await page.goBack();
    await page.getByRole('heading', { name: 'Topics', level: 1 }).waitFor();
  });

  check('shell: colours are as chosen, and stay so', '/', { scheme: 'light' }, async (visit) => {
    const { page } = visit;
    const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    await page.getByRole('heading', { level: 1 }).waitFor();
    const light = await ground();
    await page.getByLabel('Theme').selectOption({ label: 'Dark' });
    await page.waitForFunction((was) => getComputedStyle(document.documentElement).backgroundColor !== was, light);
    await page.reload();
    await page.getByRole('heading', { level: 1 }).waitFor();
    assert.notEqual(await ground(), light);
    await page.getByLabel('Theme').selectOption({ label: 'Auto' });
    await page.waitForFunction((was) => getComputedStyle(document.documentElement).backgroundColor === was, light);
  });

  check('shell: on a phone the areas are behind a button', '/', { viewport: phone }, async (visit) => {
    const { page } = visit;
    const menu = page.getByRole('button', { name: 'Menu' });
    await menu.waitFor();
    const topics = page.getByRole('navigation', { name: 'Areas' }).getByRole('link', { name: 'Topics' });
    assert.equal(await topics.isVisible(), false);
    await menu.click();
    assert.equal(await menu.getAttribute('aria-expanded'), 'true');
    await accessible(visit, 'the open menu');
    await topics.click();
    await page.getByRole('heading', { name: 'Topics', level: 1 }).waitFor();
    await topics.waitFor({ state: 'hidden' });
  });
}
