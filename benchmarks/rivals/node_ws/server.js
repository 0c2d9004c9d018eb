// What the documentation of ws and of @influxdata/influxdb-client add up to: `node server.js PORT DATABASE_URL`.
// A Point for every reading and the client's batching write API, with its defaults but for the interval of 60 s, which no
// live dashboard would bear. Nothing is kept on disk and nothing is acknowledged.
'use strict'

const { WebSocketServer } = require('ws')
const { InfluxDB, Point } = require('@influxdata/influxdb-client')

const [port, url] = process.argv.slice(2)
const writeApi = new InfluxDB({ url, token: 'telemetry' }).getWriteApi('telemetry', 'telemetry', 'ms', {
  flushInterval: 1000
})

function write(measurement, device, time, values) {
  const point = new Point(measurement).tag('device', device).timestamp(time)
  for (const [name, value] of Object.entries(values)) point.floatField(name, value)
  writeApi.writePoint(point)
}

function take(device, message) {
  if (message.columns) {
    const columns = Object.entries(message.columns)
    for (let i = 0; i < columns[0][1].length; i++) {
      const values = Object.fromEntries(columns.map(([name, column]) => [name, column[i]]))
      write(message.m, device, message.t0 + i * message.dt, values)
    }
    return
  }
  for (const reading of message.readings ?? [message]) write('telemetry', device, reading.ts, reading.values)
}

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(port), backlog: 4096 })
server.on('connection', (socket, request) => {
  const device = request.url.split('/')[3]
  socket.isAlive = true
  socket.on('pong', () => { socket.isAlive = true })
  socket.on('error', console.error)
  socket.on('message', (data) => take(device, JSON.parse(data)))
})

// "How to detect and close broken connections?" in the README of ws.
setInterval(() => {
  for (const socket of server.clients) {
    if (!socket.isAlive) {
      socket.terminate()
      continue
    }
    socket.isAlive = false
    socket.ping()
  }
}, 20000)
