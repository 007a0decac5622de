// Brokers, controllers, operations, storage and transforms: what everybody sees, a module from its
// deployment to its end, and what is offered to who may not change anything.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { accessible, judged, reachable } from './judge.mjs';
import { until } from './until.mjs';

const dialog = (page) => page.getByRole('dialog');

export default function ({ check, cluster, root }) {
  for (const [path, heading] of [
    ['/brokers', 'Load'], ['/brokers/2', 'Write-ahead log'], ['/operations', 'Operations'], ['/controllers', 'Metadata log'],
    ['/storage', 'What is in it'], ['/storage?tab=tiers', 'By topic'], ['/storage?tab=cost', 'A month'], ['/storage?tab=check', 'Compare the bucket with the catalogue'],
    ['/etl', 'quakes'], ['/etl/modules/strong', 'Error budget'], ['/etl/deploy', '2. Its spec'],
  ]) {
    check(`nodes: ${path}`, path, {}, async (visit) => {
      await visit.page.getByRole('heading', { name: heading, exact: true }).waitFor();
      await judged(visit);
    });
  }

  check('nodes: brokers say how their processes stand', '/brokers', {}, async (visit) => {
    const { page } = visit;
    await page.waitForFunction(() => [...document.querySelectorAll('tbody tr')].filter((r) => /GiB|MiB/.test(r.textContent)).length === 3);
    await reachable(visit);
    await page.getByRole('link', { name: 'broker 3' }).click();
    await page.getByRole('heading', { name: 'Broker 3' }).waitFor();
    await page.getByText('broker, controller, admin', { exact: true }).waitFor(); // its roles
    await page.getByRole('tab', { name: /Partitions/ }).click();
    await page.getByLabel('Filter partitions').fill('orders-');
    await page.getByRole('status').filter({ hasText: /^6 of/ }).waitFor();
  });

  check('nodes: who may only look is offered no change', '/brokers/1', { user: 'reader' }, async ({ page }) => {
    await page.getByText('Write-ahead log').waitFor();
    for (const name of [/Drain/, /Decommission/, /Remove/]) assert.equal(await page.getByRole('button', { name }).count(), 0, String(name));
    for (const [path, wait, never] of [['/controllers', 'Metadata log', /snapshot|Remove|Add/], ['/storage', 'What is in it', /Probe/], ['/etl/modules/strong', 'Error budget', /Disable|Delete|Roll back/]]) {
      await page.goto(new URL(path, page.url()).href);
      await page.getByText(wait, { exact: true }).waitFor();
      assert.equal(await page.getByRole('button', { name: never }).count(), 0, `${path}: ${never}`);
    }
    await page.goto(new URL('/storage?tab=check', page.url()).href);
    await page.getByText('A check asks for the right to alter the cluster').waitFor();
  });

  check('nodes: the bucket is probed and checked', '/storage', {}, async (visit) => {
    const { page } = visit;
    await page.getByRole('button', { name: 'Probe the bucket' }).click();
    await page.getByText('The bucket does all that is needed.').waitFor();
    await page.getByRole('tab', { name: 'Check' }).click();
    await page.getByLabel(/Read every byte/).check();
    await page.getByRole('button', { name: 'Check', exact: true }).click();
    await page.getByText('All that the catalogue names is there.').waitFor();
    await accessible(visit, 'what was found');
  });

  check('nodes: a snapshot is taken, and a controller is removed by its id alone', '/controllers', {}, async (visit) => {
    const { page } = visit;
    const before = (await cluster.call('GET', '/api/v1/controllers')).body.snapshot;
    await page.getByRole('button', { name: 'Take a snapshot' }).click();
    await page.getByText(/There is a snapshot up to entry/).waitFor();
    await until('the snapshot is told', async () => (await cluster.call('GET', '/api/v1/controllers')).body.snapshot >= before);
    await page.getByRole('button', { name: 'Remove…' }).first().click();
    await accessible(visit, 'the dialog');
    assert.equal(await dialog(page).getByRole('button', { name: 'Remove' }).isDisabled(), true);
    await page.keyboard.press('Escape');
    await dialog(page).waitFor({ state: 'detached' });
  });

  check('nodes: a module is tried on records of a topic, and on written ones', '/etl/modules/strong?tab=try&limit=5', {}, async (visit) => {
    const { page } = visit;
    const { body } = await cluster.call('GET', '/api/v1/topics/quakes/partitions');
    const { partition } = body.partitions.find((p) => p.high_watermark - p.log_start >= 5);
    await page.getByLabel('Partition', { exact: true }).fill(String(partition));
    await page.getByLabel('Begin').selectOption('start');
    await page.getByRole('button', { name: 'Get the records' }).click();
    await page.getByText(new RegExp(`^\\d+ records?: quakes-${partition}, offsets`)).waitFor();
    await page.getByRole('button', { name: 'Try the module on them' }).click();
    await page.getByRole('article', { name: 'Record 1' }).waitFor();
    await page.getByLabel('Records', { exact: true }).selectOption('written');
    await page.getByLabel('Records, one a line').fill('{"mag": 6, "place": "<b>Lima</b>"}\n{"mag": 1}\nno JSON');
    await page.getByRole('button', { name: 'Take these' }).click();
    await page.getByRole('button', { name: 'Try the module on them' }).click();
    await page.getByRole('article', { name: 'Record 1' }).getByText('goes to strong, as it is').waitFor();
    await page.getByRole('article', { name: 'Record 1' }).getByText('"<b>Lima</b>"').waitFor();
    await page.getByRole('article', { name: 'Record 2' }).getByText('kept as it is').waitFor();
    await page.getByRole('article', { name: 'Record 3' }).getByText(/not JSON.*it goes to letters/).waitFor();
    await page.getByLabel('Show').selectOption('reject');
    await page.getByRole('article', { name: 'Record 1' }).waitFor({ state: 'detached' });
    await judged(visit);
  });

  check('nodes: a module is uploaded from a file', '/etl/deploy', {}, async ({ page }) => {
    const file = join(root, 'etl/batteries/built/mask.wasm');
    await page.getByLabel('Or a .wasm file').setInputFiles(file);
    await page.getByRole('button', { name: /^Upload mask\.wasm/ }).click();
    await page.getByText(/^Chosen: mask\.wasm/).waitFor();
    await page.getByLabel(/^Name/).fill('uploaded');
    await page.getByRole('button', { name: 'JSON' }).click();
    await page.getByLabel('Spec').fill(JSON.stringify({ mode: 'inline', topics: ['empty'], config: { fields: [{ path: 'card', action: 'mask', keep_last: 4 }] } }));
    await page.getByLabel('Leave it disabled').check();
    await page.getByRole('button', { name: 'Deploy', exact: true }).click();
    await page.getByRole('heading', { name: 'uploaded', level: 1 }).waitFor();
    const { body } = await cluster.call('GET', '/api/v1/etl/modules/uploaded');
    assert.deepEqual(body.versions.map(({ sha256 }) => sha256), [createHash('sha256').update(readFileSync(file)).digest('hex')]);
    assert.equal(body.active, 0);
    await cluster.call('DELETE', '/api/v1/etl/modules/uploaded');
  });

  check('nodes: a module from its deployment to its end', '/etl/deploy', { expects: [/answered 412: POST .*\/disable/, /status of 412/] }, async (visit) => {
    const { page } = visit;
    const module = async () => (await cluster.call('GET', '/api/v1/etl/modules/seen')).body;
    const confirm = (name) => dialog(page).getByRole('button', { name, exact: true }).click();
    await page.getByRole('button', { name: 'Dry run' }).click();
    await page.getByText('Which name?').waitFor();
    await page.getByLabel('One that comes with rustmq').selectOption('mask');
    await page.getByLabel(/^Name/).fill('seen');
    await page.getByLabel('Topics, one a line').fill('empty');
    await page.getByRole('button', { name: 'Put an example there' }).click();
    await page.getByRole('button', { name: 'Dry run' }).click();
    await page.getByText('version 1 of seen, active').waitFor();
    assert.equal((await module()).name, undefined, 'a dry run deploys nothing');
    await page.getByRole('button', { name: 'JSON' }).click();
    const text = await page.getByLabel('Spec').inputValue();
    assert.deepEqual(JSON.parse(text).topics, ['empty']);
    await page.getByLabel('Spec').fill(text.replace('"inline"', '"inline", "fuel": 9007199254740993'));
    await page.getByRole('button', { name: 'Deploy', exact: true }).click();
    await page.getByText('A number of the spec is too large').waitFor(); // it would be another
    await page.getByLabel('Spec').fill(text.replace('"inline"', '"inline", "priority": 7'));
    await page.getByRole('button', { name: 'Deploy', exact: true }).click();
    await page.getByRole('heading', { name: 'seen' }).waitFor();
    assert.equal((await module()).versions[0].spec.priority, 7);
    await page.getByRole('link', { name: 'New version…' }).click();
    await page.getByText(/^Chosen: version 1/).waitFor();
    await page.getByRole('button', { name: 'Deploy', exact: true }).click();
    await page.getByRole('tab', { name: 'Versions (2)' }).click();
    await page.getByRole('button', { name: 'Roll back…' }).click();
    await accessible(visit, 'the dialog');
    await dialog(page).getByLabel('Reason, for the history').fill('the second <i>is wrong</i>');
    await confirm('Roll back');
    await until('the first is active', async () => (await module()).active === 1);
    await page.getByRole('button', { name: 'Disable…' }).click();
    const seen = page.waitForResponse(async (r) => r.url().endsWith('/etl/modules/seen') && (await r.json()).active === 2);
    await cluster.call('POST', '/api/v1/etl/modules/seen/enable', { version: 2 });
    await seen;
    await confirm('Disable');
    await dialog(page).getByRole('alert').waitFor(); // it is about what was there when one asked
    await page.keyboard.press('Escape');
    await dialog(page).waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Disable…' }).click();
    await confirm('Disable');
    await until('none is active', async () => (await module()).active === 0);
    await page.getByRole('tab', { name: 'History' }).click();
    await page.getByText('the second <i>is wrong</i>').waitFor();
    await page.getByRole('button', { name: 'Enable…' }).click();
    await confirm('Enable');
    await until('one is active', async () => (await module()).active > 0);
    await page.getByRole('button', { name: 'Delete…', exact: true }).first().click();
    await dialog(page).getByLabel('Name').fill('seen');
    await confirm('Delete');
    await page.waitForURL(/\/etl\?tab=modules$/);
    assert.equal((await cluster.call('GET', '/api/v1/etl/modules/seen')).status, 404);
  });
}
