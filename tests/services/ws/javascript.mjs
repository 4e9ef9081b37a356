// One client of `socket.io-client`: does what it is told on stdin, one JSON line each, and says what happened.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const [folder, url, options] = process.argv.slice(2);
const { io } = createRequire(folder + "/")("socket.io-client");
const socket = io(url, JSON.parse(options));
const say = (...words) => process.stdout.write(JSON.stringify(words) + "\n");

socket.on("connect", () => say("connect", socket.io.engine.transport.name));
socket.on("connect_error", (error) => say("connect_error", error.message));
socket.on("disconnect", (reason) => say("disconnect", reason));
socket.onAny((event, ...args) => {
  if (typeof args.at(-1) === "function") args.pop()({ js: true });
  say("event", event, ...args.map((arg) => (Buffer.isBuffer(arg) ? { bytes: [...arg] } : arg)));
});
for await (const line of createInterface({ input: process.stdin })) {
  const [event, ...args] = JSON.parse(line);
  socket.timeout(20000).emit(event, ...args, (error, ...answers) => say("ack", event, ...answers));
}
socket.close();
