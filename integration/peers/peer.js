'use strict'
// A real hyperdb 3.5.0 node in memory, driven by JSON lines on stdin and answering with JSON lines on stdout.
// Bytes are hex. Every command carries an id; its answer carries the same id and either "ok" or "error".
// Lines without an id are events: a peer connected or left, a secure-ephemeral message arrived.
const crypto = require('crypto')
const net = require('net')
const readline = require('readline')
const sodium = require('sodium-universal')
const hyperdb = require('hyperdb')
const ram = require('random-access-memory')
const websocket = require('websocket-stream')
const { seal, open } = require('./secure')
const unseal = require('./unseal')

const hex = b => Buffer.from(b).toString('hex')
const un = s => Buffer.from(s, 'hex')
const p = fn => new Promise((resolve, reject) => fn((err, v) => err ? reject(err) : resolve(v)))
const say = o => process.stdout.write(JSON.stringify(o) + '\n')

let db
let options
let ephemeralKey = null
const servers = []

function carry (socket) {
  const stream = db.replicate({ live: options.live, encrypt: options.encrypt, extensions: ['secure-ephemeral'] })
  socket.on('error', err => say({ event: 'socket error', error: err.message }))
  stream.on('error', err => say({ event: 'stream error', error: err.message }))
  socket.on('close', () => say({ event: 'disconnected' }))
  socket.pipe(stream).pipe(socket)
  stream.on('handshake', () => say({ event: 'connected' }))
}

function listen (source) {
  source.on('peer-add', peer => {
    peer.stream.on('extension', (type, bytes) => {
      if (type !== 'secure-ephemeral' || !ephemeralKey) return
      try {
        say({ event: 'message', text: open(ephemeralKey, Buffer.from(bytes)) })
      } catch (err) {
        say({ event: 'refused message', error: err.message })
      }
    })
  })
}

const describe = node => ({
  key: node.key,
  value: node.value === null ? null : hex(node.value),
  deleted: !!node.deleted,
  feed: hex(db.feeds[node.feed].key),
  seq: node.seq
})

const commands = {
  // seed: the origin's 32-byte Ed25519 seed, if this node is the origin; else key: the database's key.
  async start ({ key, seed, encrypt, live = true, contentFeed = true, ephemeral }) {
    options = { encrypt, live }
    if (ephemeral) ephemeralKey = un(ephemeral)
    const opts = { valueEncoding: 'binary', contentFeed, storeSecretKey: false }
    let publicKey = key && un(key)
    if (seed) {
      publicKey = Buffer.alloc(32)
      opts.secretKey = Buffer.alloc(64)
      sodium.crypto_sign_seed_keypair(publicKey, opts.secretKey, un(seed))
    }
    const files = {}
    db = hyperdb(name => (files[name] = files[name] || ram()), publicKey, opts)
    await p(cb => db.ready(cb))
    listen(db.source)
    return { key: hex(db.key), local: hex(db.local.key) }
  },
  async listen () {
    const server = net.createServer(carry)
    servers.push(server)
    await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
    return { port: server.address().port }
  },
  async connect ({ port }) {
    const socket = net.connect(port, '127.0.0.1')
    await new Promise((resolve, reject) => { socket.on('connect', resolve); socket.on('error', reject) })
    carry(socket)
    return {}
  },
  // As the browser node of 2019 connects to its always-on node; url names the read key.
  async connectWebSocket ({ url }) {
    const socket = websocket(url, { perMessageDeflate: false })
    await new Promise((resolve, reject) => { socket.on('connect', resolve); socket.on('error', reject) })
    carry(socket)
    return {}
  },
  async put ({ key, value }) { return describe(await p(cb => db.put(key, un(value), cb))) },
  async del ({ key }) { await p(cb => db.del(key, cb)); return {} },
  async get ({ key }) { return { nodes: (await p(cb => db.get(key, cb))).map(describe) } },
  async list ({ prefix = '' }) {
    const found = await p(cb => db.list(prefix, cb))
    return { keys: found.map(nodes => nodes.map(describe)) }
  },
  async authorize ({ key }) { await p(cb => db.authorize(un(key), cb)); return {} },
  async authorized ({ key }) { return { authorized: await p(cb => db.authorized(un(key), cb)) } },
  async lengths () {
    const out = {}
    for (let i = 0; i < db.feeds.length; i++) {
      out[hex(db.feeds[i].key)] = db.feeds[i].length
      const content = db.contentFeeds && db.contentFeeds[i]
      if (content) out[hex(content.key)] = content.length
    }
    return { lengths: out }
  },
  // A block of any feed of the database, verified by hypercore on its way here.
  async block ({ feed, seq }) {
    const feeds = db.feeds.concat(db.contentFeeds || []).filter(Boolean)
    const f = feeds.find(f => hex(f.key) === feed)
    if (!f) throw new Error('no such feed')
    return { block: hex(await p(cb => f.get(seq, { valueEncoding: 'binary' }, cb))) }
  },
  // A file of a Hypha, found by its path and opened with the content keys: its SHA-256.
  async file ({ path, keys }) {
    const k = { names: un(keys.names), meta: un(keys.meta), blocks: un(keys.blocks) }
    const get = async key => {
      const nodes = await p(cb => db.get(key, cb))
      if (nodes.length !== 1 || nodes[0].deleted) throw new Error(nodes.length + ' values of ' + key)
      return { feed: db.feeds[nodes[0].feed].key, value: nodes[0].value }
    }
    const block = async (feed, seq) => un((await commands.block({ feed: hex(feed), seq })).block)
    const bytes = await unseal.file(k, path, get, block)
    return { size: bytes.length, sha256: crypto.createHash('sha256').update(bytes).digest('hex') }
  },
  // The authorise request as the 2019 nodes sent it: no signature, no nonce.
  async ask ({ nodeName }) {
    const request = { nodeName, timestamp: new Date(), action: 'authorise', readKey: hex(db.local.key) }
    let sent = 0
    for (const peer of db.source.peers.slice()) {
      const nonce = Buffer.alloc(24)
      sodium.randombytes_buf(nonce)
      peer.stream.extension('secure-ephemeral', seal(ephemeralKey, nonce, JSON.stringify(request)))
      sent++
    }
    return { sent }
  }
}

process.on('uncaughtException', err => say({ event: 'crash', error: err.stack }))
readline.createInterface({ input: process.stdin }).on('line', async line => {
  const { id, command, ...args } = JSON.parse(line)
  try {
    say({ id, ok: await commands[command](args) })
  } catch (err) {
    say({ id, error: err.message })
  }
}).on('close', () => process.exit(0))
