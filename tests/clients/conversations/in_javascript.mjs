/* Conversations by clients/player.mjs. */

import {Player, Refused} from "../../../clients/player.mjs";

const sleep = seconds => new Promise(wake => setTimeout(wake, 1000 * seconds));

async function converse(plan, asking, answering) {
  const opened = {[asking]: 0, [answering]: 0};
  const heard = {[asking]: [], [answering]: []};
  const acks = [], errors = [], refused = [];

  function player(name) {
    const token = plan.tokens && (async () => plan.tokens[name]);
    const observe = (event, about) => {
      if (event === "open") opened[name]++;
      if (event === "received" && about.type === "error") errors.push(about.code);
    };
    return new Player(plan.url, {playerId: name, token, timing: plan.timing, observe});
  }

  async function sendBack() {
    for await (const {message} of two) {
      heard[answering].push(message);
      await two.send(asking, `${message} too`);
      if (heard[answering].length === lines.length) return;
    }
  }

  async function listen() {
    for await (const {message} of one) {
      heard[asking].push(message);
      if (heard[asking].length === lines.length) return;
    }
  }

  async function say() {
    await sleep(plan.quiet_seconds ?? 0);
    for (const nobody of plan.refused ?? []) {
      try {
        await one.send(nobody, "hello");
      } catch (refusal) {
        if (!(refusal instanceof Refused)) throw refusal;
        refused.push(refusal.code);
      }
    }
    for (const line of lines) acks.push((await one.send(answering, line)).messageId);
  }

  const one = player(asking), two = player(answering), {lines} = plan;
  await Promise.all([one.connect(), two.connect(), say(), listen(), sendBack()]);
  one.close();
  two.close();
  return {heard, acks, opened, errors, refused};
}

/* Lets all members join a room, and each send all lines to it. Resolves with what each member received. */
async function meet(plan, room, members) {
  const heard = Object.fromEntries(members.map(name => [name, []]));
  const players = members.map(name => [name, new Player(plan.url, {playerId: name, timing: plan.timing})]);

  async function listen(name, player) {
    for await (const {message, roomId} of player) {
      if (roomId !== room) throw new Error(`a message of room ${roomId}`);
      heard[name].push(message);
      if (heard[name].length === members.length * plan.lines.length) return;
    }
  }

  async function say(name, player) {
    for (const line of plan.lines) await player.sendToRoom(room, `${name} ${line}`);
  }

  await Promise.all(players.map(([, player]) => player.connect()));
  await Promise.all(players.map(([, player]) => player.join(room)));
  await Promise.all(players.flatMap(each => [listen(...each), say(...each)]));
  for (const [, player] of players) player.close();
  return heard;
}

const plan = JSON.parse(process.argv[2]);
const pairs = plan.pairs.map(pair => converse(plan, ...pair));
const rooms = Object.entries(plan.rooms ?? {}).map(([room, members]) => meet(plan, room, members));
console.log(JSON.stringify(await Promise.all([...pairs, ...rooms])));
process.exit(0);  // Node would wait for those that fell silent to say good-bye.
