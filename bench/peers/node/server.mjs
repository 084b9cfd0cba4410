// ws from npm as its README has it: "Server broadcast", a client WebSocket broadcasting to all other
// connected WebSocket clients.
//
//   https://github.com/websockets/ws/tree/8.23.0#server-broadcast
//
// Compression is off, as it is by default. What a connection has not taken yet is queued without a
// limit. The parent asks for the address and for a collection over standard input, one JSON value a
// line, and ends this process by closing it; see ../process_test.go.
import { createInterface } from "node:readline";
import WebSocket, { WebSocketServer } from "ws";

const wss = new WebSocketServer({ host: "127.0.0.1", port: 0 });

wss.on("connection", (ws, request) => {
  ws.on("error", () => {}); // a reset at the end of a run
  if (request.url !== "/publish") {
    ws.send("{}"); // registered: wss.clients has it
    return;
  }
  ws.on("message", (data, isBinary) => {
    wss.clients.forEach((client) => {
      if (client !== ws && client.readyState === WebSocket.OPEN) {
        client.send(data, { binary: isBinary });
      }
    });
  });
});

wss.on("listening", () => {
  const { address, port } = wss.address();
  createInterface({ input: process.stdin })
    .on("line", (line) => {
      if (JSON.parse(line).Collect) global.gc(); // started with --expose-gc
      const Answer = { Address: `${address}:${port}`, Messages: 0, Clients: 0 };
      process.stdout.write(JSON.stringify({ Error: "", Answer }) + "\n");
    })
    .on("close", () => process.exit(0));
});
