// An Express app with a WebSocket, on a Unix socket. It knows nothing of Baton.
const fs = require("node:fs");
const http = require("node:http");
const express = require("express");
const { WebSocketServer } = require("ws");

const app = express();
app.get("/", (_, response) => response.send("hello from express\n"));
app.post("/echo", (request, response) => {
  response.type("application/octet-stream");
  request.pipe(response);
});
app.get("/events", (_, response) => {
  response.set("content-type", "text/event-stream").flushHeaders();
  let number = 0;
  const timer = setInterval(() => {
    response.write(`data: ${number++}\n\n`);
    if (number === 3) {
      clearInterval(timer);
      response.end();
    }
  }, 20);
});
app.get("/early", (_, response) => response.writeEarlyHints({ link: "</a.css>; rel=preload" }, () => response.send("late\n")));

const server = http.createServer(app);
new WebSocketServer({ server, path: "/socket" }).on("connection", (socket) => {
  socket.on("message", (data, binary) => {
    if (data.toString() === "close") return socket.close(3001, "as asked");
    socket.send(binary ? data : data.toString().toUpperCase());
  });
});
const place = process.argv[2];
fs.rmSync(place, { force: true });
server.listen(place);
