// What strangers may choose, and what they may have a browser do: names, records and addresses that
// try to be code, and pages of another site. None of it is more than text, or is served.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { hostile } from './data.mjs';
import { fits, untouched } from './judge.mjs';
import { unauthorised } from './session.mjs';
import { until } from './until.mjs';

const segment = encodeURIComponent;

// Pages that show what somebody else has named.
const pages = [
  '/', '/topics', `/topics/${segment(hostile.topic)}`, `/topics/${hostile.longTopic}`, '/topics/strange?tab=messages', '/groups', `/groups/${segment(hostile.group)}`, '/etl', '/security', '/security?tab=rules',
  `/security?tab=check&op=read&on=${segment(`group.${hostile.group}`)}&as=${segment(`User:${hostile.user}`)}`, '/audit',
];

// Addresses that somebody else has written, and are followed.
const addresses = [
  `/${segment(hostile.markup)}`, `/topics/${segment(hostile.markup)}`, `/audit?principal=${segment(hostile.markup)}&action=${segment(hostile.header)}&resource=${segment('javascript:alert(1)')}`,
  `/security?tab=check&as=${segment(hostile.user)}&op=${segment(hostile.markup)}&on=${segment(`topic.${hostile.markup}`)}`, '/topics/%E0%A4%A', '/?q=__proto__&sort=constructor&tab=toString', '/%5c%5cevil.example', '/.%2fevil.example',
];

// Waits until a page has what it asks for.
async function settled(page) {
  await page.getByRole('heading', { level: 1 }).first().waitFor();
  await page.waitForFunction(() => !document.querySelector('.loading'));
}

export default function ({ check, cluster }) {
  check('hostile: what strangers have named is text on every page, and breaks none', '/', { expects: [/answered (403|404|422|503)/, /status of (403|404|422|503)/] }, async (visit) => {
    const { page } = visit;
    for (const path of pages) {
      await page.goto(visit.origin + path, { waitUntil: 'domcontentloaded' });
      await settled(page);
      await untouched(visit).catch((error) => { throw new Error(path, { cause: error }); });
      await fits(visit).catch((error) => { throw new Error(path, { cause: error }); });
    }
    await page.goto(`${visit.origin}/security`);
    await page.getByRole('rowheader', { name: hostile.user, exact: true }).waitFor();
    await page.goto(`${visit.origin}/audit?action=user.create`);
    await page.getByRole('cell').filter({ hasText: "<script>document.title='taken'</script>" }).waitFor();
  });

  check('hostile: what no address can name is no link to something else', '/', {}, async (visit) => {
    const { page } = visit;
    for (const group of ['..', 'a b/%2F']) await cluster.consume('strange', '-g', group, '-n', '1');
    await page.goto(`${visit.origin}/groups`);
    await page.getByRole('rowheader', { name: '..', exact: true }).waitFor();
    assert.equal(await page.getByRole('link', { name: '..', exact: true }).count(), 0);
    await page.getByRole('link', { name: 'a b/%2F', exact: true }).click();
    await page.getByRole('heading', { name: 'a b/%2F', level: 1 }).waitFor();
    await page.getByRole('button', { name: 'Reset offsets' }).waitFor();
  });

  check('hostile: an address is no code, and leads nowhere else', '/', { expects: [/answered (400|404|422)/, /status of (400|404|422)/] }, async (visit) => {
    const { page } = visit;
    for (const path of addresses) {
      await page.goto(visit.origin + path, { waitUntil: 'domcontentloaded' }).catch((error) => { throw new Error(`${path}: ${error.message}`); });
      await page.waitForFunction(() => document.body.textContent !== '');
      assert.equal(new URL(page.url()).origin, visit.origin, path);
      await untouched(visit);
    }
  });

  // Whatever goes wrong there is as it has to be: what is asked is whether it was served.
  check('hostile: a page of another site neither frames it, nor changes, nor listens', '/', { expects: [/./] }, async (visit) => {
    const { page } = visit;
    const site = createServer((request, answer) => {
      answer.setHeader('Content-Type', 'text/html');
      answer.end(`<!doctype html><title>elsewhere</title><iframe name="framed" src="${visit.origin}/"></iframe><iframe name="taken"></iframe>
        <form id="form" method="post" enctype="text/plain" target="taken" action="${visit.origin}/api/v1/topics"><input name='{"name":"forged-form","x":"' value='"}'></form>`);
    });
    await new Promise((listening) => site.listen(0, '127.0.0.1', listening));
    try {
      await page.goto(`http://127.0.0.1:${site.address().port}/`);
      const said = await page.evaluate(async (origin) => {
        const tried = {};
        const settle = async (name, does) => { tried[name] = await does().then((is) => `served: ${is.type} ${is.status}`, () => 'refused'); };
        const body = JSON.stringify({ name: 'forged-fetch' });
        await settle('read', () => fetch(`${origin}/api/v1/topics`, { credentials: 'include' }));
        await settle('change', () => fetch(`${origin}/api/v1/topics`, { method: 'POST', credentials: 'include', body, headers: { 'Content-Type': 'application/json' } }));
        await settle('listen', () => new Promise((heard, refused) => {
          const source = new EventSource(`${origin}/api/v1/audit/stream`, { withCredentials: true });
          source.onopen = () => heard({ type: 'stream', status: 200 });
          source.onerror = () => { source.close(); refused(new Error()); };
        }));
        await settle('image', () => new Promise((loaded, refused) => {
          const image = new Image();
          image.onload = () => loaded({ type: 'image', status: 200 });
          image.onerror = refused;
          image.src = `${origin}/api/v1/audit/stream`;
        }));
        await settle('script', () => new Promise((loaded, refused) => {
          const script = document.createElement('script');
          script.onload = () => loaded({ type: 'script', status: 200 });
          script.onerror = refused;
          script.src = `${origin}/api/v1/topics`;
          document.head.append(script);
        }));
        await fetch(`${origin}/api/v1/topics`, { method: 'POST', mode: 'no-cors', credentials: 'include', body }).catch(() => {});
        navigator.sendBeacon(`${origin}/api/v1/topics`, body);
        document.getElementById('form').submit();
        return tried;
      }, visit.origin);
      assert.deepEqual(said, { read: 'refused', change: 'refused', listen: 'refused', image: 'refused', script: 'refused' });
      const framed = await until('the frame has come to something', async () => page.frames().find((frame) => frame.name() === 'framed' && frame.url() !== 'about:blank' && frame.url() !== ''));
      assert.match(framed.url(), /^chrome-error:/, 'it is framed');
      await until('the form was answered', async () => visit.requests.filter((made) => made.startsWith('POST /api/v1/topics')).length >= 3);
      const { body } = await cluster.call('GET', '/api/v1/topics');
      assert.deepEqual(body.topics.map(({ name }) => name).filter((name) => name.startsWith('forged')), []);
    } finally {
      site.closeAllConnections();
      site.close();
    }
  });

  // shown once is gone from the page, its address, its storage and its requests' addresses.
  const gone = async (visit, secret) => {
    const { page } = visit;
    const kept = await page.evaluate((text) => ({
      page: document.documentElement.outerHTML.includes(text), fields: [...document.querySelectorAll('input,textarea')].some((e) => e.value.includes(text)),
      storage: JSON.stringify([{ ...localStorage }, { ...sessionStorage }, history.state]).includes(text), address: location.href.includes(text),
      entries: performance.getEntriesByType('resource').some((e) => e.name.includes(text)),
    }), secret);
    assert.deepEqual(kept, { page: false, fields: false, storage: false, address: false, entries: false });
    assert.deepEqual(visit.requests.filter((made) => made.includes(secret)), []);
    const { body } = await cluster.call('GET', '/api/v1/audit?limit=1000');
    assert.equal(JSON.stringify(body).includes(secret), false, 'it is in the audit log');
  };

  check('secrets: a password that is made is shown once', '/security', {}, async (visit) => {
    const { page } = visit;
    await page.getByRole('button', { name: 'Create user' }).click();
    await page.getByLabel('User name').fill('made-here');
    await page.getByRole('button', { name: 'Create', exact: true }).click();
    const dialog = page.getByRole('dialog', { name: 'Password of made-here' });
    const secret = await dialog.getByRole('textbox', { name: 'command' }).textContent();
    assert.match(secret, /^[A-Za-z0-9]{24}$/);
    await dialog.getByRole('button', { name: 'I have kept it' }).click();
    await dialog.waitFor({ state: 'detached' });
    await gone(visit, secret);
    const answer = await until('the password is good at this node', async () => {
      const login = await cluster.call('POST', '/api/v1/session', { user: 'made-here', password: secret }, { anonymous: true });
      return login.status === 201 && login;
    });
    assert.equal(answer.body.principal, 'User:made-here');
  });

  check('secrets: a password that is typed, and refused, is not told again', '/security', { expects: [...unauthorised, /answered 4\d\d/, /status of 4\d\d/] }, async (visit) => {
    const { page } = visit;
    await page.getByRole('button', { name: 'Create user' }).click();
    await page.getByLabel('User name').fill('guest'); // there is one
    await page.getByLabel('Password', { exact: true }).selectOption({ label: 'I type one' });
    const first = page.getByLabel(/^New password/);
    const second = page.getByLabel(/^The same again/);
    for (const field of [first, second]) assert.deepEqual([await field.getAttribute('type'), await field.getAttribute('autocomplete')], ['password', 'new-password']);
    await first.fill('typed-by-hand-7');
    await second.fill('typed-by-hand-8');
    await page.getByText('It is not the same.').waitFor();
    assert.equal(await page.getByRole('button', { name: 'Create', exact: true }).isDisabled(), true);
    await second.fill('typed-by-hand-7');
    await page.getByRole('button', { name: 'Create', exact: true }).click();
    const alert = page.getByRole('alert');
    await alert.waitFor();
    assert.equal((await alert.textContent()).includes('typed-by-hand'), false);
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await gone(visit, 'typed-by-hand-7');
  });

  check('secrets: a token is shown once', '/security?tab=tokens', {}, async (visit) => {
    const { page } = visit;
    await page.getByRole('button', { name: 'Create token' }).click();
    await page.getByLabel('Name').fill('made-here');
    await page.getByLabel(/^For/).fill('reader');
    await page.getByRole('button', { name: 'Create', exact: true }).click();
    const dialog = page.getByRole('dialog', { name: 'Token made-here' });
    const secret = await dialog.getByRole('textbox', { name: 'command' }).textContent();
    assert.match(secret, /^rmq_/);
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    await gone(visit, secret);
    const answer = await until('the token is good at this node', async () => {
      const looks = await cluster.call('GET', '/api/v1/session', undefined, { anonymous: true, headers: { Authorization: `Bearer ${secret}` } });
      return looks.status === 200 && looks;
    });
    assert.deepEqual([answer.body.principal, answer.body.read_only], ['User:reader', true]);
    await page.getByRole('button', { name: 'Revoke token made-here' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
    await until('the token is good for nothing', async () => (await cluster.call('GET', '/api/v1/session', undefined, { anonymous: true, headers: { Authorization: `Bearer ${secret}` } })).status === 401);
  });
}
