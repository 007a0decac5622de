// A broker is drained, and comes back; a fourth node gets replicas and a vote, loses both, and
// leaves: leaders move meanwhile, so that nothing else runs beside it.
import assert from 'node:assert/strict';
import { accessible, fits } from './judge.mjs';
import { until } from './until.mjs';

export default function ({ check, cluster }) {
  const broker = async (id) => (await cluster.call('GET', `/api/v1/brokers/${id}`)).body;

  check('drains: others lead, and it comes back', '/brokers/3', {}, async (visit) => {
    const { page } = visit;
    const dialog = page.getByRole('dialog');
    await page.getByRole('button', { name: 'Drain…' }).click();
    await accessible(visit, 'the dialog');
    await dialog.getByRole('button', { name: 'Drain', exact: true }).click();
    await page.getByText(/broker 3 leads nothing/).waitFor();
    assert.match(page.url(), /operation=drain-3-/);
    await until('it leads nothing', async () => (await broker(3)).state === 'draining' && (await broker(3)).leads === 0);
    await page.getByRole('button', { name: 'Decommission…' }).click();
    await dialog.getByText('To go on, write').waitFor();
    await dialog.getByText(/partitions cannot move/).waitFor(); // three brokers, three replicas
    await accessible(visit, 'the plan');
    await fits(visit);
    assert.equal(await dialog.getByRole('button', { name: 'Decommission' }).isDisabled(), true);
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    await page.getByRole('button', { name: 'Undrain…' }).click();
    await dialog.getByRole('button', { name: 'Undrain', exact: true }).click();
    await until('it serves', async () => (await broker(3)).state === 'serving');
  });

  check('drains: a fourth node is given a vote and replicas, loses both, and leaves', '/controllers', {}, async (visit) => {
    const { page } = visit;
    const dialog = page.getByRole('dialog');
    const typed = async (name) => {
      assert.equal(await dialog.getByRole('button', { name }).isDisabled(), true, `${name}: its id is to be written first`);
      await dialog.getByLabel('Name').fill('4');
      await dialog.getByRole('button', { name }).click();
    };
    const role = async () => (await cluster.call('GET', '/api/v1/controllers')).body.controllers.find(({ id }) => id === 4)?.role;
    const done = async (what) => {
      await until(`${what} has begun`, async () => new URL(page.url()).searchParams.has('operation'));
      const operation = new URL(page.url()).searchParams.get('operation');
      await until(`${what} is done`, async () => (await cluster.call('GET', `/api/v1/operations/${operation}`)).body.state === 'done');
      await page.getByText('done', { exact: true }).waitFor();
    };
    await cluster.join(4);

    const controller = page.getByRole('row').filter({ hasText: 'controller 4' });
    await controller.getByRole('button', { name: 'Add…' }).click();
    await accessible(visit, 'the dialog');
    await dialog.getByRole('button', { name: 'Add', exact: true }).click();
    await until('it has a vote', async () => (await role()) === 'voter');
    await dialog.waitFor({ state: 'detached' });

    await page.goto(`${visit.origin}/brokers/rebalance`);
    await page.getByText(/partitions? moves?:/).waitFor();
    await accessible(visit, 'the plan of a rebalance');
    await fits(visit);
    await page.getByRole('button', { name: 'Begin the moves…' }).click();
    await dialog.getByRole('button', { name: 'Begin', exact: true }).click();
    await done('the rebalance');
    assert.ok((await broker(4)).replicas > 0, 'it has replicas');

    await page.goto(`${visit.origin}/brokers/4`);
    await page.getByRole('button', { name: 'Decommission…' }).click();
    await dialog.getByText('To go on, write').waitFor();
    await typed('Decommission');
    await done('the decommission');
    assert.equal((await broker(4)).replicas, 0);

    await page.goto(`${visit.origin}/controllers`);
    await controller.getByRole('button', { name: 'Remove…' }).click();
    await dialog.getByText(/3 votes are left/).waitFor();
    await typed('Remove');
    await until('it has no vote', async () => (await role()) !== 'voter');
    await dialog.waitFor({ state: 'detached' });

    await page.goto(`${visit.origin}/brokers/4`);
    await cluster.end(4, 'SIGTERM');
    await page.getByRole('button', { name: 'Remove…' }).click();
    await typed('Remove');
    await page.getByRole('heading', { name: 'Brokers', level: 1 }).waitFor();
    assert.equal((await cluster.call('GET', '/api/v1/brokers/4')).status, 404);
  });
}
