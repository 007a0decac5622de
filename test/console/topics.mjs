// Topics and groups: what everybody sees, a topic from its making to its end, records as they
// come, offsets that are set anew, and what is refused to who may only read.
import assert from 'node:assert/strict';
import { made } from './data.mjs';
import { judged, reachable } from './judge.mjs';
import { until } from './until.mjs';

export default function ({ check, cluster, sessionOf }) {
  const dialog = (page) => page.getByRole('dialog');

  for (const path of ['/', '/topics', '/topics/orders', '/topics/orders?tab=messages', '/topics/orders?tab=config', '/topics/orders?tab=consumers', '/topics/orders?tab=about', '/topics/empty?tab=messages',
    '/groups', '/groups/billing', '/groups/billing?tab=members']) {
    check(`topics: ${path}`, path, {}, judged);
  }

  for (const path of ['/topics', '/topics/orders?tab=messages', '/groups/billing']) {
    check(`topics: the keyboard reaches all of ${path}`, path, {}, async (visit) => {
      await visit.page.getByRole('heading', { level: 1 }).waitFor();
      await visit.page.waitForFunction(() => !document.querySelector('.loading'));
      await reachable(visit);
    });
  }

  // Once it is deleted it may be asked for once more.
  check('topics: one from its making to its end', '/topics', { expects: [/answered 404: GET .*\/api\/v1\/topics\/made-here/, /console: .*status of 404/] }, async (visit) => {
    const { page } = visit;
    const is = async () => (await cluster.call('GET', '/api/v1/topics/made-here')).body;
    await page.getByRole('button', { name: /Create/ }).first().click();
    await dialog(page).getByLabel(/^Name/).fill('made here');
    assert.equal(await dialog(page).getByRole('button', { name: 'Create' }).isDisabled(), true, 'no topic can be called so');
    await dialog(page).getByLabel(/^Name/).fill('made-here');
    await dialog(page).getByLabel('Partitions').fill('3');
    await dialog(page).getByRole('button', { name: 'Check' }).click();
    await dialog(page).getByRole('status').filter({ hasText: '3 partitions' }).waitFor();
    assert.equal((await cluster.call('GET', '/api/v1/topics/made-here')).status, 404, 'a check makes nothing');
    await dialog(page).getByRole('button', { name: 'Create' }).click();
    await page.getByRole('heading', { name: 'made-here', level: 1 }).waitFor();
    await until('three partitions', async () => (await is()).partitions === 3);

    await page.getByRole('button', { name: 'Add partitions' }).click();
    await dialog(page).getByLabel('Partitions afterwards').fill('5');
    await dialog(page).getByRole('button', { name: 'Add 2' }).click();
    await until('five partitions', async () => (await is()).partitions === 5);
    await dialog(page).waitFor({ state: 'detached' });

    await page.getByRole('tab', { name: 'Configuration' }).click();
    await page.getByRole('button', { name: 'Change retention.ms' }).click();
    await dialog(page).getByLabel('Value').fill('3600000');
    await dialog(page).getByRole('button', { name: 'Save' }).click();
    await until('the config', async () => (await is()).configs['retention.ms'] === '3600000');
    await dialog(page).waitFor({ state: 'detached' });

    await page.getByRole('button', { name: 'Produce a record' }).click();
    await dialog(page).getByLabel('Partition').fill('4');
    await dialog(page).getByLabel('Key is').selectOption('text');
    await dialog(page).getByLabel('Key', { exact: true }).fill('a <b>key</b>');
    await dialog(page).getByLabel('Value', { exact: true }).fill('{"sent": "by hand"}');
    await dialog(page).getByRole('button', { name: 'Add a header' }).click();
    await dialog(page).getByLabel('Header 1: name').fill('from');
    await dialog(page).getByLabel('Header 1: value').fill('the console');
    await dialog(page).getByRole('button', { name: 'Send' }).click();
    await dialog(page).getByRole('status').filter({ hasText: 'It is at offset 0 of partition 4.' }).waitFor();
    const [record] = await cluster.consume('made-here', '-n', '1');
    assert.deepEqual([record.key, record.value, record.headers, record.partition], ['a <b>key</b>', '{"sent": "by hand"}', [{ key: 'from', value: 'the console' }], 4]);
    await page.keyboard.press('Escape');
    await dialog(page).waitFor({ state: 'detached' });

    await page.getByRole('button', { name: 'Delete records' }).click();
    await dialog(page).getByLabel('Name', { exact: true }).fill('made-here');
    await dialog(page).getByLabel('Partition').selectOption('4');
    for (const wrong of ['7', '-1', '1e', '1,000']) {
      await dialog(page).getByLabel('Before offset').fill(wrong);
      assert.equal(await dialog(page).getByRole('button', { name: /^Delete / }).isDisabled(), true, `${wrong} is no offset that there is`);
    }
    await dialog(page).getByLabel('Partition').selectOption('all');
    await dialog(page).getByRole('button', { name: /^Delete \d+ offsets?$/ }).click();
    await until('no records', async () => (await is()).partition_list.every((p) => p.log_start === p.high_watermark));
    await dialog(page).waitFor({ state: 'detached' });

    await page.getByRole('button', { name: 'Delete', exact: true }).click();
    const last = dialog(page).getByRole('button', { name: 'Delete the topic' });
    await dialog(page).getByLabel('Name', { exact: true }).fill('made-her');
    assert.equal(await last.isDisabled(), true, 'it is not the name');
    await dialog(page).getByLabel('Name', { exact: true }).fill('made-here');
    await last.click();
    await page.getByRole('heading', { name: 'Topics', level: 1 }).waitFor();
    await until('no topic', async () => (await cluster.call('GET', '/api/v1/topics/made-here')).status === 404);
  });

  check('topics: records are seen as they come, and again after a pause', '/topics', {}, async (visit) => {
    const { page } = visit;
    await made(cluster, 'POST', '/api/v1/topics', { name: 'tailed' });
    await page.goto(`${visit.origin}/topics/tailed?tab=messages`);
    await page.getByRole('button', { name: 'Follow live' }).click();
    await page.getByRole('status').filter({ hasText: /^live$/ }).waitFor();
    await cluster.produce('tailed', [{ key: 'k', value: 'the first of them' }]);
    await page.getByText('the first of them').waitFor();
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.getByRole('status').filter({ hasText: /^paused$/ }).waitFor();
    await cluster.produce('tailed', [{ key: 'k', value: 'what came meanwhile' }]);
    assert.equal(await page.getByText('what came meanwhile').count(), 0);
    await page.getByRole('button', { name: /Follow live|Go on/ }).click();
    await page.getByText('what came meanwhile').waitFor();
    assert.equal(await page.getByText('the first of them').count(), 1, 'nothing is shown twice');
  });

  check('topics: a dialog gives the focus back', '/topics', {}, async ({ page }) => {
    const create = page.getByRole('button', { name: 'Create a topic' });
    await create.click();
    for (const close of [() => page.keyboard.press('Escape'), () => dialog(page).getByRole('button', { name: 'Cancel' }).click()]) {
      await dialog(page).waitFor();
      await close();
      await dialog(page).waitFor({ state: 'detached' });
      await page.waitForFunction(() => document.activeElement?.textContent === 'Create a topic');
      await page.keyboard.press('Enter');
    }
  });

  check('topics: what many columns have is seen at once', '/topics/orders', {}, async (visit) => {
    const { page } = visit;
    for (const [path, name] of [['/topics/orders', 'partitions'], ['/brokers', 'brokers']]) {
      await page.goto(visit.origin + path);
      const region = page.getByRole('region', { name });
      await region.getByRole('row').nth(2).waitFor();
      await page.waitForFunction(() => !document.querySelector('.loading'));
      const [wide, room] = await region.evaluate((e) => [e.scrollWidth, e.clientWidth]);
      assert.ok(wide <= room, `${path}: ${wide} px in ${room}`);
    }
  });

  check('topics: a time in the address means the same everywhere', '/topics/orders?tab=messages&from=time', {}, async ({ page }) => {
    await page.getByLabel(/^Time/).fill('2018-01-31T08:58');
    await page.getByRole('button', { name: 'Apply' }).click();
    await page.waitForURL(/time=2018-01-31T08%3A58%3A00\.000Z/);
    await page.getByRole('button', { name: 'Start' }).click();
    await page.getByRole('button', { name: /^Record \d:0$/ }).first().waitFor(); // nothing is older
  });

  check('topics: one looks from an offset', '/topics/orders?tab=messages&from=offset&offset=10&partition=0', {}, async ({ page }) => {
    await page.getByRole('button', { name: 'Start' }).click();
    await page.getByRole('button', { name: 'Record 0:10', exact: true }).click();
    await dialog(page).getByText('customer-').first().waitFor();
    await page.keyboard.press('Escape');
    await dialog(page).waitFor({ state: 'detached' });
  });

  // No log here grows so far: the server's answer has another offset in it.
  check('topics: offsets that JavaScript has no number for are shown, and sent, to the digit', '/topics', {}, async (visit) => {
    const { page } = visit;
    const far = '9007199254740993'; // 2^53 + 1
    const changed = (pattern, to) => async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, body: (await answer.text()).replace(pattern, to) });
    };
    await page.route(/\/api\/v1\/topics\/payments$/, changed(/"high_watermark": ?\d+/, `"high_watermark":${far}`));
    await page.route(/\/api\/v1\/topics\/payments\/records/, changed(/"offset": ?\d+/, `"offset":${far}`));
    let sent = '';
    await page.route(/\/payments\/delete-records$/, (route) => {
      sent = route.request().postData();
      return route.fulfill({ json: { partitions: [] } });
    });
    await page.goto(`${visit.origin}/topics/payments`);
    await page.getByRole('cell', { name: '9,007,199,254,740,993', exact: true }).waitFor();
    await page.getByRole('button', { name: 'Delete records' }).click();
    await dialog(page).getByLabel('Name', { exact: true }).fill('payments');
    await dialog(page).getByLabel('Partition').selectOption('0');
    await dialog(page).getByLabel('Before offset').fill('9007199254740994');
    await dialog(page).getByText(`There are offsets 0 to ${far}.`).waitFor();
    await dialog(page).getByLabel('Before offset').fill(far);
    await dialog(page).getByRole('button', { name: /^Delete / }).click();
    await dialog(page).waitFor({ state: 'detached' });
    assert.equal(sent, `{"partitions":[{"partition":0,"before":${far}}]}`);
    await page.goto(`${visit.origin}/topics/payments?tab=messages&partition=0`);
    await page.getByRole('button', { name: new RegExp(`^Record \\d:${far}$`) }).first().click();
    await dialog(page).getByRole('heading', { name: new RegExp(`^Offset ${far} of partition`) }).waitFor();
  });

  check('topics: what is not committed is shown to who asks for it', '/topics/orders?tab=messages&from=start', {}, async (visit) => {
    const { page } = visit;
    await page.getByRole('button', { name: 'Start' }).click();
    await page.getByRole('button', { name: /^Record \d:0$/ }).first().waitFor();
    assert.ok(visit.asked('GET /api/v1/topics/orders/tail?isolation=read_committed'), visit.requests.join('\n'));
    await page.getByLabel('Of transactions').selectOption('all');
    await page.waitForURL(/transactions=all/);
    await page.getByRole('button', { name: 'Start' }).click();
    await page.getByRole('button', { name: /^Record \d:0$/ }).first().waitFor();
    assert.ok(visit.asked('GET /api/v1/topics/orders/tail?isolation=read_uncommitted'), visit.requests.join('\n'));
  });

  check('groups: offsets are set anew, after a look at what that does', '/groups', {}, async (visit) => {
    const { page } = visit;
    await cluster.consume('orders', '-g', 'resettable', '-n', '100');
    const committed = async () => (await cluster.call('GET', '/api/v1/groups/resettable')).body.partition_list.map((p) => p.committed ?? 0);
    const before = await until('commits', async () => { const all = await committed(); return all.some((n) => n > 0) && all; });
    await page.goto(`${visit.origin}/groups/resettable`);
    await page.getByRole('button', { name: 'Reset offsets' }).click();
    await dialog(page).getByRole('button', { name: 'Preview' }).click();
    await dialog(page).getByRole('status').filter({ hasText: 'consumed again' }).waitFor();
    assert.deepEqual(await committed(), before, 'a preview sets nothing');
    // Where the coordinator moves meanwhile it says so, and to try again.
    visit.expects.push(/answered 503: POST .*\/reset-offsets/, /status of 503/);
    await until('offsets at the start', async () => {
      const set = dialog(page).getByRole('button', { name: /^Set \d+ offsets?$/ });
      if (await set.isEnabled({ timeout: 100 }).catch(() => false)) await set.click({ timeout: 1000 });
      return (await dialog(page).count()) === 0 && (await committed()).every((n) => n === 0);
    });
    await page.getByRole('button', { name: 'Delete', exact: true }).click();
    await dialog(page).getByLabel('Name', { exact: true }).fill('resettable');
    await dialog(page).getByRole('button', { name: 'Delete the group' }).click();
    await page.getByRole('heading', { name: 'Groups', level: 1 }).waitFor();
    await until('no group', async () => (await cluster.call('GET', '/api/v1/groups')).body.groups.every((g) => g.group !== 'resettable'));
  });

  check('groups: what was committed of a topic is forgotten, of another it is not', '/groups', {}, async (visit) => {
    const { page } = visit;
    for (const topic of ['orders', 'payments']) await cluster.consume(topic, '-g', 'forgetful', '-n', '10');
    const topics = async () => [...new Set((await cluster.call('GET', '/api/v1/groups/forgetful')).body.partition_list.filter((p) => p.committed !== undefined).map((p) => p.topic))].sort();
    await until('commits of both', async () => (await topics()).length === 2);
    await page.goto(`${visit.origin}/groups/forgetful`);
    await page.getByRole('button', { name: 'Delete offsets' }).click();
    await dialog(page).getByLabel('Of topic').selectOption('payments');
    await dialog(page).getByRole('button', { name: 'Delete the offsets' }).click();
    await dialog(page).waitFor({ state: 'detached' });
    assert.deepEqual(await topics(), ['orders']);
  });

  check('topics: who may only read is offered no change, and refused one', '/topics/orders', { user: 'reader' }, async (visit) => {
    const { page } = visit;
    await page.getByRole('tab', { name: 'Partitions' }).waitFor();
    for (const name of [/Produce/, /Add partitions/, /Delete/]) assert.equal(await page.getByRole('button', { name }).count(), 0, String(name));
    await page.goto(`${visit.origin}/topics`);
    await page.getByRole('link', { name: 'orders', exact: true }).waitFor();
    assert.equal(await page.getByRole('link', { name: 'payments' }).count(), 0, 'it may not describe that one');
    const session = await sessionOf('reader');
    const headers = { Cookie: `${session.name}=${session.value}`, Origin: visit.origin, 'X-CSRF-Token': session.csrf };
    for (const [method, path, body] of [['POST', '/records', { value: 'x' }], ['DELETE', ''], ['PATCH', '', { set: { 'retention.ms': '1' } }], ['POST', '/partitions', { total: 99 }]]) {
      assert.equal((await cluster.call(method, `/api/v1/topics/orders${path}`, body, { headers })).status, 403, `${method} ${path}`);
    }
  });
}
