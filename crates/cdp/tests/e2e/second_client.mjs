// Drives the browser as a user's automation does, and says what it saw.
import { chromium } from './node_modules/playwright-core/index.mjs';

const [endpoint, site] = process.argv.slice(2);
const browser = await chromium.connectOverCDP(endpoint);
const context = browser.contexts()[0];
const lines = [];
for (let n = 0; n < 5; n++) {
  const page = await context.newPage();
  page.on('console', (message) => message.text().startsWith('form') && lines.push(message.text()));
  await page.goto(`${site}/form`);
  await page.fill('#name', `visitor ${n}`);
  await page.fill('#secret', 'TYPED-SECRET');
  await page.click('#buy');
  const answer = page.waitForResponse('**/data.json?*');
  await page.evaluate((n) => fetch(`/data.json?playwright=${n}`).then((it) => it.text()), n);
  console.log((await answer).status(), await page.title(), await page.inputValue('#name'));
  await page.close();
}
console.log(lines.join());
await browser.close();
