'use strict'
// A peer made of the real npm packages, for interop_test.go: node peer.js '{"what": .., "role": .., ...}'.
// It prints one JSON object a line and ends when its standard input ends.
const path = require('path')
const net = require('net')
const load = name => require(path.join(process.env.HYPHAFS_NPM, 'node_modules', name))
const hypercore = load('hypercore')
const hyperdb = load('hyperdb')
const ram = load('random-access-memory')

const o = JSON.parse(process.argv[2])
const say = x => console.log(JSON.stringify(x))
const p = fn => new Promise((resolve, reject) => fn((err, v) => err ? reject(err) : resolve(v)))
const key = o.key && Buffer.from(o.key, 'hex')
process.stdin.on('end', () => process.exit(0)).resume()

function carry (replicate) {
  const opts = () => ({ live: o.live, encrypt: o.encrypt, extensions: ['secure-ephemeral'] })
  const join = socket => {
    const s = replicate(opts())
    s.on('error', err => say({ error: err.message }))
    s.on('end', () => say({ ended: true }))
    socket.on('error', () => {})
    s.pipe(socket).pipe(s)
  }
  if (o.port) return join(net.connect(o.port, '127.0.0.1'))
  const server = net.createServer(join).listen(0, '127.0.0.1', () => say({ port: server.address().port }))
}

async function core () {
  const feed = hypercore(() => ram(), key)
  await p(cb => feed.ready(cb))
  say({ key: feed.key.toString('hex') })
  for (let i = 0; i < (o.blocks || 0); i++) await p(cb => feed.append(Buffer.alloc(o.size, i + 1), cb))
  let got = 0
  feed.on('download', () => {
    if (++got === o.want) say({ downloaded: got, length: feed.length })
  })
  carry(opts => feed.replicate(opts))
}

async function db () {
  const d = hyperdb(() => ram(), key, { valueEncoding: 'utf-8', contentFeed: true })
  await p(cb => d.ready(cb))
  for (let i = 0; i < (o.puts || 0); i++) await p(cb => d.put('dir/file' + i, 'value ' + i, cb))
  if (o.puts) await p(cb => d.localContent.append(Buffer.from('a block of content'), cb))
  say({ key: d.key.toString('hex'), local: d.local.key.toString('hex'), content: d.localContent && d.localContent.key.toString('hex') })
  carry(opts => d.replicate(opts))
  if (!o.get) return
  for (;;) {
    const nodes = await p(cb => d.get(o.get, cb))
    if (nodes.length) return say({ value: nodes[0].value })
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

(o.what === 'db' ? db() : core()).catch(err => { say({ error: err.stack }); process.exit(1) })
