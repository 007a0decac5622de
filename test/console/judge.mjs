// What every page is judged by: axe, its width on a phone, and what the keyboard reaches.
import assert from 'node:assert/strict';
import { desktop, phone } from './browser.mjs';

// axe finds nothing; in the other colours ("dark") of the same page only these can be wrong.
export async function accessible(visit, what) {
  const { page } = visit;
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(visit.browser.axe);
  const found = await page.evaluate(async (only) => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'], ...(only ? { runOnly: { type: 'rule', values: only } } : {}) });
    return violations.map((v) => `${v.id} (${v.impact}): ${v.help}\n${v.nodes.slice(0, 5).map((n) => `    ${n.target.join(' ')}: ${n.html.slice(0, 200)}\n    ${n.failureSummary.replaceAll('\n', ' ')}`).join('\n')}`);
  }, what === 'dark' ? ['color-contrast'] : null);
  assert.deepEqual(found, [], `axe, ${what}:\n${found.join('\n')}`);
}

// Nothing is wider than the window, but what scrolls in itself, once what is drawn by its size has
// been drawn anew: on a busy machine that takes some frames.
export async function fits(visit, viewport = phone) {
  const { page } = visit;
  await page.setViewportSize(viewport);
  const wide = await page.evaluate(async () => {
    const root = document.documentElement;
    for (let frames = 0; frames < 2 || (frames < 60 && root.scrollWidth > root.clientWidth); frames++) await new Promise(requestAnimationFrame);
    const width = root.clientWidth;
    if (root.scrollWidth <= width) return [];
    const scrolls = (e) => e && e !== document.body && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
    const all = [...document.body.querySelectorAll('*')].filter((e) => e.getBoundingClientRect().right > width + 0.5 && !scrolls(e.parentElement));
    return [`the page is ${root.scrollWidth} px wide`, ...all.slice(0, 10).map((e) => `${Math.round(e.getBoundingClientRect().right)} px: ${e.outerHTML.slice(0, 150)}`)];
  });
  assert.deepEqual(wide, [], `wider than ${viewport.width} px:\n${wide.join('\n')}`);
  await page.setViewportSize(desktop);
}

// What can be operated can be reached by Tab, and shows where one is.
export async function reachable(visit, most = 400) {
  const { page } = visit;
  const count = await page.evaluate(() => {
    const selector = 'a[href],button,input,select,textarea,summary,[tabindex]';
    // Those of which the keyboard goes to one, and moves between them by arrows.
    const one = (e) => e.matches('input[type=radio]') ? `radio ${e.name}` : e;
    const operated = () => [...document.querySelectorAll(selector)].filter((e) => e.tabIndex >= 0 && !e.disabled && e.checkVisibility({ visibilityProperty: true }) && !e.closest('[inert]'));
    globalThis.walked = { seen: new Set(), bare: [], operated, one };
    addEventListener('focusin', ({ target }) => {
      globalThis.walked.seen.add(one(target));
      const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(target);
      if ((outlineStyle === 'none' || parseFloat(outlineWidth) === 0) && boxShadow === 'none') globalThis.walked.bare.push(target.outerHTML.slice(0, 150));
    });
    document.activeElement?.blur();
    return operated().length;
  });
  // What has come since it was counted takes more of them.
  let missed = [], bare = [];
  for (let pressed = 0, due = count + 5; due > 0 && pressed < most; due = missed.length && missed.length + 5) {
    for (let i = 0; i < due; i++, pressed++) await page.keyboard.press('Tab');
    ({ missed, bare } = await page.evaluate(() => {
      const { seen, bare, operated, one } = globalThis.walked;
      return { missed: operated().filter((e) => !seen.has(one(e))).map((e) => e.outerHTML.slice(0, 150)), bare };
    }));
  }
  assert.deepEqual(missed, [], `Tab does not reach:\n${missed.join('\n')}`);
  assert.deepEqual(bare, [], `has the focus, and does not show it:\n${bare.join('\n')}`);
}

// Nothing that strangers wrote has become part of the page.
export async function untouched(visit) {
  const found = await visit.page.evaluate(() => ({
    title: document.title, images: [...document.images].filter((i) => i.getAttribute('src') === 'x').length,
    scripts: [...document.scripts].filter((s) => !s.src).length, handlers: document.querySelectorAll('[onerror],[onload],[onclick]').length, polluted: {}.polluted ?? false,
  }));
  assert.notEqual(found.title, 'taken');
  assert.deepEqual({ ...found, title: '' }, { title: '', images: 0, scripts: 0, handlers: 0, polluted: false });
}

// A page as it is, in both colours, and on a phone.
export async function judged(visit) {
  const { page } = visit;
  await page.getByRole('heading', { level: 1 }).first().waitFor();
  await page.waitForFunction(() => !document.querySelector('.loading'));
  await accessible(visit, 'light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await accessible(visit, 'dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await fits(visit);
}
