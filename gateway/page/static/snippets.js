/** Code that connects a device, filled with an address, a device and its token. */

/** @typedef {{host: string, secure: boolean, device: string, token: string}} Target */

function url({ host, secure, device }) {
  return `${secure ? "wss" : "ws"}://${host}/v1/devices/${encodeURIComponent(device)}/stream`;
}

function browser(target) {
  return `<script>
  const url = "${url(target)}";
  const socket = new WebSocket(url, ["telemetry.v1.json", "bearer.${target.token}"]);
  let seq = 0;
  socket.onmessage = (event) => console.log(event.data);
  socket.onopen = () => setInterval(() => {
    socket.send(JSON.stringify({ seq: seq++, ts: Date.now(), values: { temp: 20 + Math.random() } }));
  }, 1000);
</script>`;
}

function python(target) {
  return `import json, time
from websockets.sync.client import connect  # pip install websockets

url = "${url(target)}"
with connect(url, additional_headers={"Authorization": "Bearer ${target.token}"}) as socket:
    print(socket.recv())  # welcome: limits, keepalive, the last number that is durable
    for seq in range(1000):
        socket.send(json.dumps({"seq": seq, "ts": time.time(), "values": {"temp": 21.5}}))
        print(socket.recv())  # {"type":"ack","seq":0} once it is on the gateway's disk
        time.sleep(1)`;
}

function micropython(target) {
  return `import aiohttp, asyncio  # mip.install("aiohttp")


async def main():
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect("${url(target)}") as socket:
            await socket.send_json({"type": "hello", "token": "${target.token}"})
            print(await socket.receive_json())
            for seq in range(1000):
                await socket.send_json({"seq": seq, "temp": 21.5})
                print(await socket.receive_json())
                await asyncio.sleep(1)


asyncio.run(main())`;
}

function curl({ host, secure, device, token }) {
  const address = `${secure ? "https" : "http"}://${host}/v1/devices/${encodeURIComponent(device)}/readings`;
  return `curl -H "Authorization: Bearer ${token}" -d '{"temp":21.5}' \\
  ${address}`;
}

/** By language: the text for a target. @type {Object<string, (target: Target) => string>} */
export const SNIPPETS = { Browser: browser, Python: python, MicroPython: micropython, curl };
