// A room server in Node with `ws` and `ioredis` as its users know it (channel = room, and on the channel
// `{"type":"SEND_MESSAGE","roomId":…,"message":…}`), serving the same rooms as this one on one Redis:
// node shared_rooms.mjs <url of the server> <url of Redis>

import { once } from "node:events";
import { Redis } from "ioredis";
import { WebSocketServer } from "ws";
import { Client, run, within } from "./client.mjs";

const OPEN = 1;

class NodeRoomServer {
  #rooms = new Map();
  #publisher;
  #subscriber;

  constructor(redisUrl) {
    this.#publisher = new Redis(redisUrl);
    this.#subscriber = new Redis(redisUrl);
    this.#subscriber.on("message", (room, payload) => {
      const { message } = JSON.parse(payload);
      for (const socket of this.#rooms.get(room) ?? []) {
        if (socket.readyState === OPEN) socket.send(typeof message === "string" ? message : JSON.stringify(message));
      }
    });
    this.server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    this.server.on("connection", (socket) => {
      socket.on("message", (data) => this.#command(socket, JSON.parse(data.toString())));
      socket.on("close", () => this.#rooms.forEach((members) => members.delete(socket)));
    });
  }

  async #command(socket, command) {
    const { type, room, roomId, message } = command;
    if (type === "SUBSCRIBE") {
      if (!this.#rooms.has(room)) {
        this.#rooms.set(room, new Set());
        await this.#subscriber.subscribe(room);
      }
      this.#rooms.get(room).add(socket);
      this.server.emit("joined");
    } else if (type === "UNSUBSCRIBE") {
      this.#rooms.get(room)?.delete(socket);
    } else if (type === "SEND_MESSAGE") {
      await this.#publisher.publish(roomId, JSON.stringify({ type, roomId, message }));
    }
  }
}

await run(async (url, redisUrl) => {
  const node = new NodeRoomServer(redisUrl);
  await within(once(node.server, "listening"), "the Node server");
  const nodeUrl = `ws://127.0.0.1:${node.server.address().port}`;

  // Three who speak the old dialect, on either side, and one who speaks the new one. The latter first: what it is told
  // about the room holds for those who come after it.
  const modern = await Client.connect(`${url}/`);
  modern.send('{"type":"SUBSCRIBE","room":"room1"}');
  await modern.expect('{"type":"SUBSCRIBED","room":"room1"}');
  const joined = once(node.server, "joined");
  const old = [await Client.connect(nodeUrl), await Client.connect(`${url}/classic`), await Client.connect(`${url}/broadcast/room1`)];
  old[0].send('{"type":"SUBSCRIBE","room":"room1"}');
  await within(joined, "the room on the Node server");
  old[1].send('{"type":"SUBSCRIBE","room":"room1"}');

  const everyoneGets = async (message) => {
    const text = typeof message === "string" ? message : JSON.stringify(message);
    for (const client of old) await client.expect(text);
    await modern.expect(`{"type":"MESSAGE","room":"room1","message":${JSON.stringify(message)}}`);
  };
  const command = (message) => JSON.stringify({ type: "SEND_MESSAGE", roomId: "room1", message });
  old[1].send(command("from a classic client of ours"));
  await everyoneGets("from a classic client of ours");
  old[0].send(command("from the Node server's client"));
  await everyoneGets("from the Node server's client");
  old[0].send(command({ any: ["JSON", 1, null] }));
  await everyoneGets({ any: ["JSON", 1, null] });
  old[2].send("a broadcaster's text");
  await everyoneGets("a broadcaster's text");
  modern.send(command("from the new dialect"));
  await everyoneGets("from the new dialect");
});
