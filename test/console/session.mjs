// Who is logged in: the login, the end of a session, and what an open page makes of either.
import assert from 'node:assert/strict';
import { password } from './cluster.mjs';
import { accessible, fits, reachable } from './judge.mjs';

// What a browser says of an answer that a page had to expect.
export const unauthorised = [/answered 401: (GET|POST) .*\/api\/v1\//, /console: Failed to load resource: the server responded with a status of 401/];

async function logIn(page, user, secret) {
  await page.getByLabel('User').fill(user);
  await page.getByLabel('Password').fill(secret);
  await page.getByRole('button', { name: 'Log in' }).click();
}

export default function ({ check, cluster, sessionOf }) {
  check('login: a wrong password is told, the right one shows the page that was asked for', '/topics?filter=pay', { user: null, expects: unauthorised }, async (visit) => {
    const { page } = visit;
    const button = page.getByRole('button', { name: 'Log in' });
    await button.waitFor();
    assert.equal(await button.isDisabled(), true, 'there is nothing to log in with yet');
    await accessible(visit, 'light');
    await page.emulateMedia({ colorScheme: 'dark' });
    await accessible(visit, 'dark');
    await fits(visit);
    await logIn(page, 'root', 'no such password');
    await page.getByRole('alert').waitFor();
    assert.equal(new URL(page.url()).pathname, '/topics');
    await logIn(page, 'root', password);
    await page.getByRole('heading', { name: 'Topics', level: 1 }).waitFor();
    assert.equal(new URL(page.url()).search, '?filter=pay');
    const cookies = await page.context().cookies();
    assert.deepEqual(cookies.map(({ name, httpOnly, secure, sameSite }) => ({ name, httpOnly, secure, sameSite })),
      [{ name: '__Host-rustmq-session', httpOnly: true, secure: true, sameSite: 'Strict' }]);
    assert.equal(await page.evaluate(() => document.cookie + JSON.stringify({ ...localStorage }).replace(/"theme":"[a-z]*"/, '')), '{}', 'no script keeps a secret');
  });

  check('login: by keyboard alone', '/', { user: null, expects: unauthorised }, async (visit) => {
    const { page } = visit;
    await page.getByRole('button', { name: 'Log in' }).waitFor();
    await page.getByLabel('User').focus();
    await page.keyboard.type('reader');
    await page.keyboard.press('Tab');
    await page.keyboard.type(password);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: /Overview|Cluster/ }).waitFor();
  });

  check('session: logging out ends it at the server too', '/', { user: null, expects: [...unauthorised, /failed: DELETE .*\/api\/v1\/session/, /net::ERR_FAILED/] }, async (visit) => {
    const { page } = visit;
    await page.getByRole('button', { name: 'Log in' }).waitFor();
    await logIn(page, 'guest', password);
    const out = page.getByRole('button', { name: 'Log out' });
    await out.waitFor();
    const [cookie] = await page.context().cookies();
    const alive = await cluster.call('GET', '/api/v1/session', undefined, { headers: { Cookie: `${cookie.name}=${cookie.value}` } });
    assert.equal(alive.body.principal, 'User:guest');
    const lost = (route) => (route.request().method() === 'DELETE' ? route.abort() : route.continue());
    await page.route('**/api/v1/session', lost);
    await out.click();
    await page.getByRole('status').filter({ hasText: 'You are logged in still' }).waitFor();
    await page.unroute('**/api/v1/session', lost);
    await out.click();
    await page.getByRole('button', { name: 'Log in' }).waitFor();
    const dead = await cluster.call('GET', '/api/v1/session', undefined, { headers: { Cookie: `${cookie.name}=${cookie.value}` } });
    assert.equal(dead.status, 401);
  });

  check('session: one that has ended asks to log in, and goes on where one was', '/topics?filter=orders', { user: null, expects: unauthorised }, async (visit) => {
    const { page } = visit;
    const session = await cluster.session('guest');
    await page.context().addCookies([{ name: session.name, value: session.value, url: session.url, httpOnly: true, secure: true, sameSite: 'Strict' }]);
    await page.reload();
    await page.getByRole('heading', { name: 'Topics', level: 1 }).waitFor();
    await cluster.call('DELETE', '/api/v1/session', undefined, { headers: { Cookie: `${session.name}=${session.value}`, Origin: visit.origin, 'X-CSRF-Token': session.csrf } });
    await page.getByRole('navigation', { name: 'Areas' }).getByRole('link', { name: 'Groups' }).click();
    await page.getByRole('status').filter({ hasText: /session/i }).waitFor();
    await logIn(page, 'guest', password);
    await page.getByRole('heading', { name: 'Groups', level: 1 }).waitFor();
  });
}
