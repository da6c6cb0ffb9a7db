// A runner in JavaScript with nothing but Node's own modules: the handlers of runner_handlers.py, over RRQ's protocol.
// node runner.mjs --tcp-socket 127.0.0.1:9000, or --socket-fd 3

import fs from "node:fs";
import net from "node:net";
import process from "node:process";

const LARGEST = 16 * 1024 * 1024;
const running = new Map(); // request id -> its stop: whether one is asked for, and whom to tell

class Retry extends Error {
  constructor(message, seconds) {
    super(message);
    this.seconds = seconds;
  }
}

const pause = (seconds, stop) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    stop.tell = () => {
      clearTimeout(timer);
      reject(new Error("stopped"));
    };
  });

const handlers = {
  nothing: async () => null,
  echo: async (request) => ({
    pid: process.pid,
    request_id: request.request_id,
    job_id: request.job_id,
    function: request.function_name,
    version: request.protocol_version,
    params: request.params,
    attempt: request.context.attempt,
    queue: request.context.queue_name,
    has_times: Boolean(Date.parse(request.context.enqueue_time) && Date.parse(request.context.deadline)),
    trace: request.context.trace_context,
    correlation: request.context.correlation_context,
    worker: request.context.worker_id,
  }),
  fail: async (request) => {
    throw new Error(`told to fail: ${request.context.attempt}`);
  },
  again: async (request) => {
    if (request.context.attempt === 1) throw new Retry("not yet", 0.05);
    return request.context.attempt;
  },
  wait: async (request, stop) => {
    await pause(request.params.seconds, stop);
    return process.pid;
  },
  block: async (request) => {
    fs.writeSync(1, "blocking\n");
    const end = Date.now() + request.params.seconds * 1000;
    while (Date.now() < end);
    return process.pid;
  },
  die: async () => process.exit(3),
  big: async () => "x".repeat(17_000_000),
  say: async (request) => {
    console.log(request.params.text);
    return null;
  },
};

// What is said in one turn of the loop goes out in one write.
function send(socket, payload) {
  socket.unsaid ??= [];
  if (socket.unsaid.push(JSON.stringify({ type: "response", payload })) === 1) setImmediate(flush, socket);
}

function flush(socket) {
  const sizes = socket.unsaid.map((text) => Buffer.byteLength(text));
  const frames = Buffer.allocUnsafe(sizes.reduce((sum, size) => sum + 4 + size, 0));
  let at = 0;
  socket.unsaid.forEach((text, nth) => {
    frames.writeUInt32BE(sizes[nth], at);
    frames.write(text, at + 4);
    at += 4 + sizes[nth];
  });
  socket.unsaid = [];
  socket.write(frames);
}

async function run(socket, request) {
  const ids = { request_id: request.request_id, job_id: request.job_id };
  const handler = handlers[request.function_name];
  if (request.protocol_version !== "2") {
    return send(socket, { ...ids, status: "error", error: { message: "unknown version" } });
  }
  if (!handler) {
    const error = { type: "handler_not_found", message: `no ${request.function_name}` };
    return send(socket, { ...ids, status: "error", error });
  }
  const stop = { jobId: request.job_id, isAsked: false, tell: () => {} };
  running.set(request.request_id, stop);
  try {
    send(socket, { ...ids, status: "success", result: await handler(request, stop) });
  } catch (fault) {
    if (stop.isAsked) {
      send(socket, { ...ids, status: "error", error: { type: "cancelled", message: "cancelled" } });
    } else if (fault instanceof Retry) {
      const error = { message: fault.message };
      send(socket, { ...ids, status: "retry", error, retry_after_seconds: fault.seconds });
    } else {
      send(socket, { ...ids, status: "error", error: { message: fault.message, type: fault.name } });
    }
  } finally {
    running.delete(request.request_id);
  }
}

function cancel(payload) {
  for (const [id, one] of running) {
    if (payload.request_id ? payload.request_id !== id : payload.job_id !== one.jobId) continue;
    one.isAsked = true;
    one.tell();
  }
}

function serve(socket) {
  let buffer = Buffer.alloc(0);
  socket.on("error", () => socket.destroy());
  socket.on("data", (data) => {
    buffer = buffer.length ? Buffer.concat([buffer, data]) : data;
    let at = 0;
    while (buffer.length - at >= 4) {
      const size = buffer.readUInt32BE(at);
      if (size === 0 || size > LARGEST) return socket.destroy();
      if (buffer.length - at < 4 + size) break;
      const { type, payload } = JSON.parse(buffer.toString("utf8", at + 4, at + 4 + size));
      at += 4 + size;
      if (type === "request") run(socket, payload);
      else if (type === "cancel") cancel(payload);
      else socket.destroy();
    }
    buffer = buffer.subarray(at);
  });
}

const [option, value] = process.argv.slice(2);
if (option === "--socket-fd") {
  const socket = new net.Socket({ fd: Number(value), readable: true, writable: true });
  socket.on("close", () => process.exit(0));
  serve(socket);
} else {
  const [host, port] = value.split(":");
  net.createServer(serve).listen(Number(port), host);
}
