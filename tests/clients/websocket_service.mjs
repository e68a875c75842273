/* A service on this machine that answers handshakes as a test tells it to, and speaks just enough WebSocket. */

import {createHash} from "node:crypto";
import {createServer} from "node:http";

const CONNECTED = {type: "system", event: "connected", messageId: "01a", connectionId: "c", playerId: "1"};

/* Answers to a handshake. Each is called with the service, the request and the TCP connection. */

export function accept(service, request, line) {
  const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  line.write([
    "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
    `Sec-WebSocket-Accept: ${createHash("sha1").update(key).digest("base64")}`,
    ...("sec-websocket-protocol" in request.headers ? ["Sec-WebSocket-Protocol: player"] : []),
    "\r\n",
  ].join("\r\n"));
  line.on("data", data => service.hear(line, data));
  service.greet(line);
}

export const refuse = status => (service, request, line) => {
  line.end(`HTTP/1.1 ${status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
};

export function reset(service, request, line) {
  line.resetAndDestroy();
}

export function hang() {}

export const acceptAndSay = text => (service, request, line) => {
  accept(service, request, line);
  line.write(frameOf(text));
};

export class Service {
  handshakes = [];
  heard = [];
  #answers;
  #lines = new Set();
  #server = createServer();

  /* answers: to the first handshakes; the later ones are accepted. */
  constructor(...answers) {
    this.#answers = answers;
    this.#server.on("upgrade", (request, line) => {
      this.#lines.add(line);
      line.on("error", () => {});
      this.handshakes.push(request);
      (this.#answers.shift() ?? accept)(this, request, line);
    });
  }

  async listen(port = 0) {
    await new Promise(listening => this.#server.listen(port, "127.0.0.1", listening));
    return this;
  }

  get port() {
    return this.#server.address().port;
  }

  get url() {
    return `ws://127.0.0.1:${this.port}/dev/`;
  }

  async stop() {
    for (const line of this.#lines) line.destroy();
    await new Promise(stopped => this.#server.close(stopped));
  }

  greet(line) {
    line.write(frameOf(JSON.stringify(CONNECTED)));
  }

  /* Answers pings. A client's text frames are masked, and shorter than 126 bytes in these tests. */
  hear(line, data) {
    for (let at = 0; at + 6 <= data.length; ) {
      const opcode = data[at] & 15, length = data[at + 1] & 127, mask = data.subarray(at + 2, at + 6);
      const payload = data.subarray(at + 6, at + 6 + length).map((byte, index) => byte ^ mask[index % 4]);
      if (opcode === 8) line.end(Buffer.from([0x88, 0]));
      if (opcode === 1) {
        const {ackId} = JSON.parse(Buffer.from(payload).toString());
        this.heard.push(ackId);
        line.write(frameOf(JSON.stringify({type: "pong", ackId})));
      }
      at += 6 + length;
    }
  }
}

function frameOf(text) {
  const payload = Buffer.from(text);
  return Buffer.concat([Buffer.from([0x81, payload.length]), payload]);
}
