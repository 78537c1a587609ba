// Drives Chromium for the tests of the approval page. Reads one order a line (JSON) and answers each with a line:
// {"tab": "a", "do": "goto", …}. Every tab with another `profile` is another person's browser.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const browser = await chromium.launch({ executablePath: process.argv[2], args: ['--no-sandbox'] });
const profiles = new Map();
const tabs = new Map();
const noise = [];

async function tab(name, { profile = 'default', viewport, scheme } = {}) {
  if (tabs.has(name)) return tabs.get(name);
  if (!profiles.has(profile)) {
    profiles.set(profile, await browser.newContext({
      ignoreHTTPSErrors: true,
      viewport: viewport ?? { width: 1280, height: 900 },
      colorScheme: scheme ?? 'light',
      hasTouch: Boolean(viewport),
    }));
  }
  const page = await profiles.get(profile).newPage();
  page.setDefaultTimeout(20_000);
  page.on('console', (message) => {
    // The provider's own pages are not ours to mend.
    const isOurs = new URL(message.location().url || page.url()).hostname === 'localhost';
    if (isOurs && ['error', 'warning'].includes(message.type())) noise.push(`${name}: ${message.text()}`);
  });
  page.on('pageerror', (error) => noise.push(`${name}: ${error}`));
  page.on('dialog', (dialog) => {
    noise.push(`${name}: dialog ${dialog.message()}`);
    dialog.dismiss();
  });
  tabs.set(name, page);
  return page;
}

const acts = {
  open: async () => null,
  goto: async (page, { url }) => (await page.goto(url)).status(),
  // The forms of oidc-provider: any login, any password, then consent.
  sign_in: async (page, { login }) => {
    await page.fill('[name=login]', login);
    await page.fill('[name=password]', 'any');
    await page.click('button[type=submit]');
    await page.click('button[type=submit]');
    await page.waitForURL((url) => !url.pathname.startsWith('/interaction') && !url.pathname.startsWith('/auth'));
    return page.url();
  },
  url: (page) => page.url(),
  text: (page, { of }) => page.innerText(of),
  count: (page, { of }) => page.locator(of).count(),
  value: (page, { of }) => page.inputValue(of),
  fill: (page, { of, text }) => page.fill(of, text),
  click: (page, { of }) => page.click(of),
  press: async (page, { keys }) => {
    for (const key of keys) await page.keyboard.press(key);
  },
  type: (page, { text }) => page.keyboard.type(text),
  focused: (page) => page.evaluate(() => document.activeElement?.id || document.activeElement?.textContent),
  see: (page, { of, text }) => page.waitForFunction(
    ([of, text]) => document.querySelector(of)?.innerText.includes(text), [of, text],
  ).then(() => true),
  lose: (page, { of }) => page.waitForSelector(of, { state: 'detached' }).then(() => true),
  reload: (page) => page.reload().then(() => null),
  eval: (page, { script }) => page.evaluate(script),
  forget: (page) => page.context().clearCookies({ name: '__Host-countersign' }),
  cookies: (page) => page.context().cookies(),
  content: (page, { html }) => page.setContent(html),
  shot: (page, { file }) => page.screenshot({ path: file, fullPage: true }).then(() => null),
  // Rules of WCAG 2.2 AA and good practice; what is wrong, and where.
  axe: async (page) => {
    const session = await page.context().newCDPSession(page);
    await session.send('Page.setBypassCSP', { enabled: true });
    const { result } = await session.send('Runtime.evaluate', { expression: `${axe}; axe.run().then((it) =>
      JSON.stringify(it.violations.map((one) => [one.id, one.nodes.map((node) => node.html)])))`, awaitPromise: true });
    await session.send('Page.setBypassCSP', { enabled: false });
    return JSON.parse(result.value);
  },
  scroll_width: (page) => page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]),
  close: (page, { tab: name }) => {
    tabs.delete(name);
    return page.close();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  let answer;
  try {
    if (order.do === 'noise') answer = { ok: noise.splice(0) };
    else answer = { ok: (await acts[order.do](await tab(order.tab, order), order)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
