/* Makes npm's `ws` the WebSocket of this Node. */

globalThis.WebSocket = require("ws");
