// The pictures of docs/console-gallery.md, where SCREENSHOTS=1 asks for them.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { desktop, phone } from './browser.mjs';
import { reduced } from './palette.mjs';

const most = 120 * 1024; // bytes of a picture

// What is done before the picture is made, where a page alone does not show it.
const tried = async (page) => {
  await page.getByLabel('Records', { exact: true }).selectOption('written');
  await page.getByLabel('Records, one a line').fill('{"mag": 6.1, "place": "Lima"}\n{"mag": 1.2, "place": "Oslo"}\nno JSON');
  await page.getByRole('button', { name: 'Take these' }).click();
  await page.getByRole('button', { name: 'Try the module on them' }).click();
  await page.getByRole('article', { name: 'Record 3' }).waitFor();
  await page.getByRole('article', { name: 'Record 1' }).scrollIntoViewIfNeeded();
};
const chosen = async (page) => {
  await page.getByLabel('One that comes with rustmq').selectOption('mask');
  await page.getByLabel(/^Name/).fill('hide-cards');
  await page.getByLabel('Topics, one a line').fill('payments');
  await page.getByRole('button', { name: 'Put an example there' }).click();
};
const drawn = (page) => page.locator('.uplot').first().waitFor(); // once it was looked at twice

const pictures = [
  ['topics', '/topics'], ['topic', '/topics/orders'], ['messages', '/topics/orders?tab=messages'], ['groups', '/groups'], ['group', '/groups/billing', desktop, 'light', drawn],
  ['brokers', '/brokers'], ['broker', '/brokers/2'], ['controllers', '/controllers'], ['module', '/etl/modules/strong'], ['try', '/etl/modules/strong?tab=try', desktop, 'light', tried], ['deploy', '/etl/deploy', desktop, 'light', chosen],
  ['overview', '/'], ['security', '/security?tab=rules'], ['audit', '/audit'], ['config', '/config?tab=settings'], ['health', '/health'],
  ['strange-dark', '/topics/strange?tab=messages', desktop, 'dark'], ['storage-dark', '/storage', desktop, 'dark'], ['topic-phone', '/topics/orders', phone], ['overview-phone', '/', phone],
];

export default function ({ check, root }) {
  if (!process.env.SCREENSHOTS) return;
  for (const [name, path, viewport = desktop, scheme = 'light', prepare] of pictures) {
    check(`picture: ${name}`, path, { viewport, scheme }, async ({ page }) => {
      await page.getByRole('heading', { level: 1 }).waitFor();
      await page.waitForFunction(() => !document.querySelector('.loading'));
      await page.waitForLoadState('load');
      await prepare?.(page);
      const picture = reduced(await page.screenshot());
      assert.ok(picture.length < most, `${name} has ${picture.length} bytes`);
      writeFileSync(join(root, 'docs', 'images', `console-${name}.png`), picture);
    });
  }
}
