// One replica of an application: it answers every message with its name, and knows only those
// clients that it has met itself. Prints its port.

import { createServer } from "node:http";
import { Server } from "socket.io";

const name = process.argv[2];
const server = createServer();
const io = new Server(server);

io.on("connection", (socket) => {
  let count = 0;
  socket.emit("hello", name);
  socket.on("say", (text, answer) => answer({ name, text, count: ++count }));
});

server.listen(0, "127.0.0.1", () => console.log(server.address().port));
// The test ends it by closing its input.
process.stdin.resume().on("end", () => process.exit(0));
