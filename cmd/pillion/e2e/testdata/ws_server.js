// A WebSocket server (node-ws) that echoes, with compression and a subprotocol. argv: port.
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]), perMessageDeflate: true, handleProtocols: (asked) => (asked.has('chat') ? 'chat' : false) });
server.on('connection', (ws) => {
  ws.on('message', (data, isBinary) => {
    if (!isBinary && data.toString() === 'close') ws.close(4001, 'as you wish ✓');
    else ws.send(data, { binary: isBinary });
  });
});
