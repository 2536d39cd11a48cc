// So many clients that each connect once and exchange messages, in one of three ways: polling,
// upgrade (polling first, then a WebSocket), websocket. Prints what became of them.

import { once } from "node:events";
import { io } from "socket.io-client";

const [url, way, clients, messages] = process.argv.slice(2);
const transports = { polling: ["polling"], upgrade: ["polling", "websocket"], websocket: ["websocket"] };

async function converse(number) {
  const socket = io(url, {
    transports: transports[way],
    // Cookies are kept and sent back, as in a browser.
    withCredentials: true,
    // A session that is lost is a failure, not something to hide by beginning another.
    reconnection: false,
    forceNew: true,
    timeout: 10_000,
  });
  try {
    const signal = AbortSignal.timeout(15_000);
    const lost = once(socket, "disconnect", { signal }).then(([reason]) => {
      throw new Error(`disconnected: ${reason}`);
    });
    const refused = once(socket, "connect_error", { signal }).then(([error]) => {
      throw error;
    });
    const work = async () => {
      const [name] = await once(socket, "hello", { signal });
      for (let count = 1; count <= messages; count++) {
        if (way === "upgrade" && count === 2 && socket.io.engine.transport.name !== "websocket") {
          await once(socket.io.engine, "upgrade", { signal });
        }
        const text = `${number}/${count}`;
        const answer = await socket.timeout(10_000).emitWithAck("say", text);
        if (answer.name !== name || answer.text !== text || answer.count !== count) {
          throw new Error(`said ${text} to ${name}, answered ${JSON.stringify(answer)}`);
        }
      }
      return { name, transport: socket.io.engine.transport.name };
    };
    return await Promise.race([work(), lost, refused]);
  } finally {
    socket.removeAllListeners();
    socket.disconnect();
  }
}

process.on("unhandledRejection", () => {});
const numbers = Array.from({ length: Number(clients) }, (_, number) => number);
const results = await Promise.allSettled(numbers.map(converse));
const served = results.filter((result) => result.status === "fulfilled").map((result) => result.value);
const failures = results.filter((result) => result.status === "rejected").map((result) => String(result.reason));
console.log(JSON.stringify({ served, failures }));
process.exit(0);
