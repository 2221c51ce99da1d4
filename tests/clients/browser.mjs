// Drives pages in a real browser for the tests: one JSON command a line in, one JSON answer a line out.
//
//   {"do": "open", "device": "laptop", "url": "http://..."}    a page; each device has a browser profile of its own
//   {"do": "reload", "device": "laptop"}
//   {"do": "leave", "device": "laptop"}    go to an empty page
//   {"do": "call", "device": "laptop", "name": "login", "args": [{"customerid": "c-1"}]}    one of the page's `calls`
//   {"do": "report", "device": "laptop"}    console errors, page errors, and every request with its outcome
//
// An answer is {"result": ...} or {"error": "..."}. The browser ends with the input.
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const [executablePath, certificateHash] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  headless: true,
  chromiumSandbox: false,
  args: [
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    `--ignore-certificate-errors-spki-list=${certificateHash}`,
  ],
});

const devices = new Map();

async function newDevice() {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const seen = { console: [], requests: [] };
  page.on('console', (message) => {
    if (message.type() === 'error') seen.console.push({ text: message.text(), url: message.location().url });
  });
  page.on('pageerror', (error) => seen.console.push({ text: String(error), url: page.url() }));
  const rows = new Map();
  page.on('request', (request) => {
    const row = { method: request.method(), url: request.url(), body: request.postData(), status: 0, failure: '' };
    rows.set(request, row);
    seen.requests.push(row);
  });
  page.on('response', (response) => {
    rows.get(response.request()).status = response.status();
  });
  page.on('requestfailed', (request) => {
    // After an answer only its unread body was given up, for example by a reload of the page.
    const row = rows.get(request);
    if (!row.status) row.failure = request.failure()?.errorText ?? 'failed';
  });
  return { page, seen };
}

const commands = {
  async open({ device, url }) {
    if (!devices.has(device)) devices.set(device, await newDevice());
    const { page } = devices.get(device);
    await page.goto(url);
    return page.evaluate(() => initialised);
  },
  async reload({ device }) {
    const { page } = devices.get(device);
    await page.reload();
    return page.evaluate(() => initialised);
  },
  async leave({ device }) {
    await devices.get(device).page.goto('about:blank');
    return null;
  },
  async call({ device, name, args }) {
    return devices.get(device).page.evaluate(([name, args]) => calls[name](...args), [name, args]);
  },
  async report({ device }) {
    return devices.get(device).seen;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { result: await commands[command.do](command) };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
