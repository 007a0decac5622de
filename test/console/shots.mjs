// The pictures of docs/console-gallery.md, where SCREENSHOTS=1 asks for them.
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { desktop, phone } from './browser.mjs';

const most = 200 * 1024; // bytes of a picture

const pictures = [
  ['topics', '/topics', desktop, 'light'], ['topic', '/topics/orders', desktop, 'light'], ['messages', '/topics/orders?tab=messages', desktop, 'light'], ['group', '/groups/billing', desktop, 'light'],
  ['brokers', '/brokers', desktop, 'light'], ['module', '/etl/modules/strong', desktop, 'light'], ['overview', '/', desktop, 'light'], ['audit', '/audit', desktop, 'light'],
  ['strange-dark', '/topics/strange?tab=messages', desktop, 'dark'], ['storage-dark', '/storage', desktop, 'dark'], ['topic-phone', '/topics/orders', phone, 'light'], ['overview-phone', '/', phone, 'light'],
];

export default function ({ check, root }) {
  if (!process.env.SCREENSHOTS) return;
  for (const [name, path, viewport, scheme] of pictures) {
    check(`picture: ${name}`, path, { viewport, scheme }, async ({ page }) => {
      await page.getByRole('heading', { level: 1 }).waitFor();
      await page.waitForFunction(() => !document.querySelector('.loading'));
      await page.waitForLoadState('load');
      if (name === 'group') await page.locator('.uplot').first().waitFor(); // once it was looked at twice
      const file = join(root, 'docs', 'images', `console-${name}.png`);
      await page.screenshot({ path: file });
      assert.ok(statSync(file).size < most, `${file} has ${statSync(file).size} bytes`);
    });
  }
}
