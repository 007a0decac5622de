// A broker is drained, decommissioned as far as the others bear it, and comes back: leaders move
// meanwhile, so that nothing else runs beside it.
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
    await page.goto(new URL('/brokers/rebalance', page.url()).href);
    await page.getByText(/Replicas are spread evenly|partitions? moves?:/).waitFor();
    await accessible(visit, 'the plan of a rebalance');
  });
}
