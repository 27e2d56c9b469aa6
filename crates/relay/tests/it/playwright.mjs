// An agent's work: visits a page, clicks, types a secret, and takes a screenshot.
// node playwright.mjs PACKAGE RELAY TOKEN PAGE
const [module, relay, token, address] = process.argv.slice(2);
const { chromium } = await import(module);

const browser = await chromium.connectOverCDP(relay, { headers: { Authorization: `Bearer ${token}` } });
const page = await browser.contexts()[0].newPage();
await page.goto(address);
await page.locator('#user').fill('swordfisherman');
await page.locator('#password').pressSequentially('swordfis');
await page.locator('#go').click();
await page.screenshot();
console.log(await page.title());
await page.close();
await browser.close();
