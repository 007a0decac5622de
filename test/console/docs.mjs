// The page that shows the admin API to people.
import assert from 'node:assert/strict';
import { accessible, fits } from './judge.mjs';

export default function ({ check }) {
  check('the page of the API', '/api/v1/docs', { user: null }, async (visit) => {
    await visit.page.getByRole('heading', { name: 'rustmq: the admin API', level: 1 }).waitFor();
    assert.match(visit.answer.headers()['content-security-policy'], /default-src 'none'/);
    await accessible(visit, 'light');
    await fits(visit);
  });
}
