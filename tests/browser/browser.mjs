// The browser of these tests, and a page that is none of the server's.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';

/** Starts a browser, which speaks to nobody but the pages of a test. */
export function launchBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

/** A page of another port, which is another origin. */
export async function startOtherPage() {
  const other = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>x</title>'));
  await once(other.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `http://127.0.0.1:${other.address().port}`,
    stop() {
      other.closeAllConnections();
      other.close();
    },
  };
}
