// A runner in JavaScript with nothing but Node's own modules: the handlers of runner_handlers.py, over RRQ's protocol.
// node runner.mjs --tcp-socket 127.0.0.1:9000, or --socket-fd 3

import fs from "node:fs";
import net from "node:net";
import process from "node:process";

const LARGEST = 16 * 1024 * 1024;
const running = new Map(); // request id -> {jobId, abort}

class Retry extends Error {
  constructor(message, seconds) {
    super(message);
    this.seconds = seconds;
  }
}

const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new Error("stopped"));
    });
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
  wait: async (request, signal) => {
    await pause(request.params.seconds, signal);
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
  const body = Buffer.from(JSON.stringify({ type: "response", payload }));
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length);
  socket.unsaid ??= [];
  if (socket.unsaid.push(head, body) === 2) {
    setImmediate(() => {
      socket.write(Buffer.concat(socket.unsaid));
      socket.unsaid = [];
    });
  }
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
  const abort = new AbortController();
  running.set(request.request_id, { jobId: request.job_id, abort });
  try {
    send(socket, { ...ids, status: "success", result: await handler(request, abort.signal) });
  } catch (fault) {
    if (abort.signal.aborted) {
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
    if (payload.request_id ? payload.request_id === id : payload.job_id === one.jobId) one.abort.abort();
  }
}

function serve(socket) {
  let buffer = Buffer.alloc(0);
  socket.on("error", () => socket.destroy());
  socket.on("data", (data) => {
    buffer = buffer.length ? Buffer.concat([buffer, data]) : data;
    while (buffer.length >= 4) {
      const size = buffer.readUInt32BE(0);
      if (size === 0 || size > LARGEST) return socket.destroy();
      if (buffer.length < 4 + size) return;
      const { type, payload } = JSON.parse(buffer.subarray(4, 4 + size).toString());
      buffer = buffer.subarray(4 + size);
      if (type === "request") run(socket, payload);
      else if (type === "cancel") cancel(payload);
      else socket.destroy();
    }
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
