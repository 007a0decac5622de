// A node alone that asks nobody who it is, of which more can be spoilt than of those that others
// look at: its bucket gets objects that came too late, its clock cannot be believed. Then ten
// thousand partitions: how many rows the page has is asserted, how long it was busy is printed.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after } from 'node:test';
import { Cluster } from './cluster.mjs';
import { made } from './data.mjs';
import { accessible } from './judge.mjs';
import { until } from './until.mjs';

const partitions = 10_000;
const rows = 150; // that a page may have at once

export default function ({ check, bin }) {
  let beginning;
  after(async () => { await beginning?.then((alone) => alone.close(), () => {}); });
  const begin = async () => {
    const alone = new Cluster(bin, 1, { 'object_storage.grace': '1s', 'object_storage.retention_interval': '1s', 'object_storage.metadata_log_interval': '1s' });
    await alone.begin();
    await made(alone, 'POST', '/api/v1/topics', { name: 'uploaded' });
    await alone.produce('uploaded', [{ key: 'k', value: 'v' }]);
    await until('something is in the bucket', async () => (await alone.call('GET', '/api/v1/topics/uploaded')).body.bucket_bytes > 0);
    return alone;
  };
  const at = () => (beginning ??= begin());
  // The first file in the bucket of the node whose name is such.
  const inBucket = (alone, pattern) => readdirSync(join(alone.dir, 'bucket'), { recursive: true }).map((name) => join(alone.dir, 'bucket', name)).find((name) => pattern.test(name));
  const object = /\/data\/[0-9a-f]{2}\/[0-9a-f]{16}$/;

  check('alone: objects that came after their deletion are found, and deleted', '/storage?tab=check', { user: null, at }, async (visit) => {
    const { page } = visit;
    const alone = await at();
    // Of an id that was issued, and that the catalogue knows nothing of any more.
    const late = join(dirname(dirname(inBucket(alone, object))), '00', '0'.repeat(16));
    mkdirSync(dirname(late), { recursive: true });
    writeFileSync(late, 'late');
    await page.getByRole('button', { name: 'Check', exact: true }).click();
    await page.getByRole('row').filter({ hasText: late.slice(-19) }).getByText('orphan').waitFor();
    await accessible(visit, 'what was found');
    // It goes once it was seen for longer than the grace.
    await until('it is deleted', async () => {
      await page.getByRole('button', { name: 'Delete orphans…' }).click();
      const dialog = page.getByRole('dialog');
      assert.equal(await dialog.getByRole('button', { name: 'Delete them' }).isDisabled(), true);
      await dialog.getByLabel('Name').fill('orphans');
      await dialog.getByRole('button', { name: 'Delete them' }).click();
      await page.getByRole('heading', { name: 'What was found', exact: true }).waitFor();
      return !existsSync(late);
    });
    await page.getByRole('row').filter({ has: page.getByRole('rowheader', { name: 'deleted' }) }).getByRole('cell', { name: '1', exact: true }).waitFor();
    assert.ok(inBucket(alone, object), 'what the catalogue names stays');
  });

  check('alone: a clock that is not believed is confirmed', '/api/v1/docs', { user: null, at }, async (visit) => {
    const { page } = visit;
    const alone = await at();
    const troubled = async () => (await alone.call('GET', '/api/v1/cluster/health')).body.problems.some(({ kind }) => kind === 'clock');
    await alone.end(1);
    writeFileSync(inBucket(alone, /\.clock$/), 'spoilt\n');
    await alone.start(1);
    await until('it does not believe its clock', troubled);
    await page.goto(`${visit.origin}/storage`);
    await page.getByText(/time that was believed last is damaged/).first().waitFor();
    await page.getByRole('button', { name: 'Confirm the clock…' }).click();
    await accessible(visit, 'the dialog');
    await page.getByRole('dialog').getByRole('button', { name: 'It is right' }).click();
    await page.getByRole('status').filter({ hasText: 'The clock is confirmed' }).waitFor();
    await until('it believes it', async () => !(await troubled()));
  });

  check('many: ten thousand partitions are scrolled through', '/topics', { user: null, at }, async (visit) => {
    const { page } = visit;
    await made(await at(), 'POST', '/api/v1/topics', { name: 'many', partitions });
    await page.goto(`${visit.origin}/topics/many`);
    const region = page.getByRole('region', { name: 'partitions' });
    await region.getByRole('row').nth(20).waitFor();
    assert.equal(await region.getByRole('table').getAttribute('aria-rowcount'), String(partitions + 1));
    const busy = await region.evaluate(async (box) => {
      const long = [];
      const watch = new PerformanceObserver((list) => long.push(...list.getEntries().map((e) => e.duration)));
      watch.observe({ entryTypes: ['longtask'] });
      let most = 0, frames = 0;
      const begun = performance.now();
      for (let y = 0; y <= box.scrollHeight; y += box.scrollHeight / 60) {
        box.scrollTop = y;
        await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
        most = Math.max(most, box.querySelectorAll('tr').length);
        frames += 2;
      }
      box.scrollTop = box.scrollHeight;
      watch.disconnect();
      return { most, frames, ms: performance.now() - begun, long: Math.max(0, ...long) };
    });
    console.log(`# ${partitions} partitions: at most ${busy.most} rows; ${(busy.ms / busy.frames).toFixed(1)} ms a frame, the longest task ${busy.long.toFixed(0)} ms`);
    assert.ok(busy.most < rows, `${busy.most} rows`);
    await region.getByRole('row').filter({ hasText: /9,?999/ }).first().waitFor();
    await page.getByLabel('Filter partitions').fill('9998');
    await page.getByRole('status').filter({ hasText: /^1 of 10,000/ }).waitFor();
  });
}
