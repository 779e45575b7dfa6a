// A WebSocket client (node-ws) of an echo server. argv: URL. It prints ok, or fails.
const assert = require('assert');
const crypto = require('crypto');
const WebSocket = require('ws');

const ws = new WebSocket(process.argv[2], 'chat', { perMessageDeflate: true });
const received = [];
let wake = () => {};
ws.on('message', (data, isBinary) => { received.push({ data, isBinary }); wake(); });
const pongs = [];
ws.on('pong', (data) => { pongs.push(data.toString()); wake(); });
ws.on('error', (err) => { console.error(err); process.exit(1); });

async function until(list) {
  while (list.length === 0) await new Promise((resolve) => { wake = resolve; });
  return list.shift();
}

ws.on('open', async () => {
  try {
    assert.strictEqual(ws.protocol, 'chat');
    assert.match(ws.extensions, /permessage-deflate/);
    for (const text of ['', 'hello', 'grüße ✓ 🐎', 'x'.repeat(200000)]) {
      ws.send(text);
      const got = await until(received);
      assert(!got.isBinary && got.data.toString() === text, text.slice(0, 20));
    }
    for (const size of [0, 125, 126, 65535, 65536, 1 << 20]) {
      const data = crypto.randomBytes(size);
      // In three fragments, with a ping between them.
      const third = Math.floor(size / 3);
      ws.send(data.subarray(0, third), { binary: true, fin: false });
      ws.send(data.subarray(third, 2 * third), { binary: true, fin: false });
      ws.ping('between');
      ws.send(data.subarray(2 * third), { binary: true, fin: true });
      assert.strictEqual(await until(pongs), 'between');
      const got = await until(received);
      assert(got.isBinary && data.equals(got.data), size);
    }
    const end = new Promise((resolve) => ws.on('close', (code, reason) => resolve([code, reason.toString()])));
    ws.send('close');
    assert.deepStrictEqual(await end, [4001, 'as you wish ✓']);
    console.log('ok');
    process.exit(0);
  } catch (err) {
    console.error(err);
    process.exit(1);
  }
});
