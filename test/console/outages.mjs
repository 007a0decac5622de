// What is left of a page when its node is killed, and when it is back.
import { password } from './cluster.mjs';
import { until } from './until.mjs';

async function logIn(page) {
  await page.getByLabel('User').fill('root');
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Log in' }).click();
}

export default function ({ check, cluster, browser, sessionOf }) {
  // Its connections stay open, so that a browser has no reason to think of them as lost.
  check('outage: a page says that nothing is heard of its node', '/', { user: null, node: 2, expects: [/./] }, async ({ page }) => {
    await page.clock.install();
    await page.reload();
    await logIn(page);
    await page.getByRole('heading', { name: 'Bytes by tier' }).waitFor();
    const node = cluster.nodes.get(2).process;
    node.kill('SIGSTOP');
    try {
      await page.clock.fastForward(20_000);
      await page.getByText('Connection lost').waitFor();
    } finally {
      node.kill('SIGCONT');
    }
    await page.getByText('Connection lost').waitFor({ state: 'detached' });
  });

  check('outage: a page says that its node is gone, and goes on when it is back', '/topics', { user: null, node: 2, expects: [/./] }, async (visit) => {
    const { page } = visit;
    await logIn(page);
    await page.getByRole('link', { name: 'orders', exact: true }).waitFor();
    await cluster.end(2);
    try {
      await page.getByRole('alert').first().waitFor();
      await page.getByRole('link', { name: 'orders', exact: true }).waitFor(); // what was known stays
      await browser.visit(cluster, '/health', { session: await sessionOf('root'), name: 'the health of two' }, async (other) => {
        await other.page.getByText(/broker 2/i).first().waitFor();
      });
    } finally {
      await cluster.start(2);
    }
    // Its sessions ended with the process.
    await page.getByRole('button', { name: 'Log in' }).waitFor();
    await logIn(page);
    await page.getByRole('link', { name: 'orders', exact: true }).waitFor();
    await page.getByRole('alert').waitFor({ state: 'detached' });
    await until('all brokers serve', async () => (await cluster.call('GET', '/api/v1/brokers')).body.brokers.every((b) => b.state === 'serving'));
  });
}
