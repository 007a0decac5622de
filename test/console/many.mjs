// Ten thousand partitions, of a node alone that asks nobody who it is: how many rows the page
// has is asserted, how long it was busy is printed.
import assert from 'node:assert/strict';
import { after } from 'node:test';
import { Cluster } from './cluster.mjs';
import { made } from './data.mjs';

const partitions = 10_000;
const rows = 150; // that a page may have at once

export default function ({ check, bin }) {
  let alone;
  after(() => alone?.close());
  const at = async () => {
    alone = new Cluster(bin, 1);
    await alone.begin();
    await made(alone, 'POST', '/api/v1/topics', { name: 'many', partitions });
    return alone;
  };
  check('many: ten thousand partitions are scrolled through', '/topics/many', { user: null, at }, async ({ page }) => {
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
